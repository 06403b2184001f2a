"use strict";
// The page's viewer: two scans on one grid, laid over each other by NiiVue. Everything comes out of the page itself.
(() => {
  const box = document.getElementById("viewer");
  const part = (name) => document.getElementById(`viewer-${name}`);
  const status = part("status");
  const BLUE = [26, 128, 242], ORANGE = [229, 127, 13], SQUARE_MM = 30, SLAB_MM = 8;

  async function unpacked(name) {
    const bytes = Uint8Array.from(atob(part(`${name}-data`).textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  async function library() {
    const url = URL.createObjectURL(new Blob([await unpacked("library")], { type: "text/javascript" }));
    try {
      return await import(url);
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  // 0 is "no data" and stays black; the tint is a colour's share beside plain grey.
  function colours(colour, tint) {
    const top = colour.map((value) => Math.round(255 * (1 - tint) + value * tint));
    const map = { I: [0, 1, 255], A: [0, 255, 255] };
    ["R", "G", "B"].forEach((key, axis) => { map[key] = [0, 0, top[axis]]; });
    return map;
  }

  async function start() {
    const { Niivue, NVImage, SLICE_TYPE, MULTIPLANAR_TYPE, SHOW_RENDER } = await library();
    const canvas = part("canvas");
    const narrow = window.matchMedia("(max-width: 700px)");
    const viewer = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.35, 0.85, 0.45, 0.7],
      crosshairWidth: 0.25,
      dragAndDropEnabled: false,
      isAdditiveBlend: true,
      isRadiologicalConvention: true,
      loadingText: "",
      logLevel: "error",
      multiplanarShowRender: SHOW_RENDER.NEVER,
      sagittalNoseLeft: true,
      show3Dcrosshair: false,
      tileMargin: 4,
    });
    await viewer.attachToCanvas(canvas);
    viewer.addColormap("fixedBlue", colours(BLUE, 1));
    viewer.addColormap("movingOrange", colours(ORANGE, 1));
    viewer.addColormap("fixedTint", colours(BLUE, 0.25));
    viewer.addColormap("movingTint", colours(ORANGE, 0.25));

    const scans = [];
    for (const [name, map] of [["fixed", "fixedBlue"], ["moving", "movingOrange"]]) {
      const file = await unpacked(name);
      const image = await NVImage.new(file, `${name}.nii`, map, 1, null, 0, 255);
      scans.push({ image, whole: image.img.slice() });
    }
    // NiiVue adds colours among overlays only, so an empty copy of the fixed scan lies under both.
    const ground = scans[0].image.clone();
    ground.img = new Uint8Array(scans[0].whole.length);
    ground.opacity = 0;
    [ground, scans[0].image, scans[1].image].forEach((image) => viewer.addVolume(image));

    const [, sizeI, sizeJ, sizeK] = scans[0].image.hdr.dims;
    const step = scans[0].image.hdr.pixDims[1];
    const squares = new Uint8Array(sizeI * sizeJ * sizeK);
    // The middle of the volume, where the first cuts are, is the middle of a square: no edge runs along a cut.
    const parity = (index, size) => Math.abs(Math.round(((index - (size - 1) / 2) * step) / SQUARE_MM)) % 2;
    for (let k = 0, voxel = 0; k < sizeK; k++) {
      for (let j = 0; j < sizeJ; j++) {
        for (let i = 0; i < sizeI; i++, voxel++) {
          const odd = parity(i, sizeI) ^ parity(j, sizeJ) ^ parity(k, sizeK);
          squares[voxel] = odd && scans[1].whole[voxel] ? 1 : 0;
        }
      }
    }

    function blend() {
      const share = part("share").value / 100, checked = part("checker").checked;
      const grey = checked || share === 0 || share === 1; // colours only where the two are added up
      scans.forEach(({ image, whole }, moving) => {
        image.img.set(checked ? whole.map((value, voxel) => (squares[voxel] === moving ? value : 0)) : whole);
        image.colormap = ["fixed", "moving"][moving] + (grey ? "Tint" : ["Blue", "Orange"][moving]);
        image.opacity = checked ? 1 : Math.min(1, 2 * (moving ? share : 1 - share));
      });
      part("share").disabled = checked;
      viewer.updateGLVolume();
    }

    const points = JSON.parse(new TextDecoder().decode(await unpacked("points")));
    const marks = part("marks").getContext("2d");

    // Points within half a slab of a slice are drawn on it, through the places that NiiVue gives for its slices.
    function drawMarks() {
      const { width, height } = canvas;
      Object.assign(part("marks"), { width, height });
      const here = viewer.frac2mm(viewer.scene.crosshairPos), dense = width / canvas.clientWidth;
      for (const slice of viewer.screenSlices) {
        const [across, up, through] = [[0, 1, 2], [0, 2, 1], [1, 2, 0]][slice.axCorSag];
        let [left, top, wide, high] = slice.leftTopWidthHeight;
        const mirrored = wide < 0;
        if (mirrored) [left, wide] = [left + wide, -wide];
        const place = (point) => {
          const x = (point[across] - slice.leftTopMM[0]) / slice.fovMM[0];
          const y = (point[up] - slice.leftTopMM[1]) / slice.fovMM[1];
          return [left + (mirrored ? 1 - x : x) * wide, top + (1 - y) * high];
        };
        const near = (point) => Math.abs(point[through] - here[through]) <= SLAB_MM / 2;
        marks.save();
        marks.beginPath();
        marks.rect(left, top, wide, high);
        marks.clip();
        marks.lineWidth = 1.6 * dense;
        if (part("matches").checked) {
          for (const point of points.matches.filter(near)) {
            drawMark(place(point), point[3], point[4] ? "dot" : "cross", 3 * dense);
          }
        }
        if (part("landmarks")?.checked) {
          for (const point of points.landmarks) {
            if (near(point)) drawMark(place(point), "#6db3ff", "ring", 6 * dense);
            if (near(point.slice(3))) drawMark(place(point.slice(3)), "#ffae5c", "plus", 5 * dense);
          }
        }
        marks.restore();
      }
    }

    function drawMark([x, y], colour, shape, size) {
      marks.strokeStyle = marks.fillStyle = colour;
      marks.beginPath();
      if (shape === "dot" || shape === "ring") marks.arc(x, y, size, 0, 2 * Math.PI);
      const [a, b] = shape === "cross" ? [size, size] : [size, 0];
      if (shape === "cross" || shape === "plus") {
        marks.moveTo(x - a, y - b);
        marks.lineTo(x + a, y + b);
        marks.moveTo(x - b, y + a);
        marks.lineTo(x + b, y - a);
      }
      if (shape === "dot") marks.fill();
      else marks.stroke();
    }

    const drawScene = viewer.drawScene.bind(viewer);
    viewer.drawScene = () => {
      const drawn = drawScene();
      drawMarks();
      return drawn;
    };

    function planes() {
      const chosen = part("planes").value, column = narrow.matches;
      const long = Math.max(sizeJ, sizeK);
      const [wide, high] = {
        MULTIPLANAR: column ? [Math.max(sizeI, sizeJ), sizeJ + 2 * sizeK] : [2 * sizeI + sizeJ, long],
        AXIAL: [sizeI, sizeJ],
        CORONAL: [sizeI, sizeK],
        SAGITTAL: [sizeJ, sizeK],
      }[chosen];
      part("stage").style.aspectRatio = `${wide} / ${high}`;
      viewer.setSliceType(SLICE_TYPE[chosen]);
      viewer.setMultiplanarLayout(column ? MULTIPLANAR_TYPE.COLUMN : MULTIPLANAR_TYPE.ROW);
    }

    // Voxel axes run to the patient's right, front and head; right is on the left of the picture.
    const MOVES = {
      ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 0, 1], ArrowDown: [0, 0, -1],
      PageUp: [0, 1, 0], PageDown: [0, -1, 0],
    };
    canvas.addEventListener("keydown", (event) => {
      if (!MOVES[event.key]) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      viewer.moveCrosshairInVox(...MOVES[event.key]);
    }, true);
    viewer.onLocationChange = (place) => {
      part("place").textContent = Array.from(place.mm).slice(0, 3).map((value) => value.toFixed(0)).join(", ");
    };
    ["share", "checker"].forEach((name) => part(name).addEventListener("input", blend));
    ["matches", "landmarks"].forEach((name) => part(name)?.addEventListener("input", () => viewer.drawScene()));
    part("planes").addEventListener("input", planes);
    narrow.addEventListener("change", planes);
    planes();
    blend();
    status.hidden = true;
  }

  const seen = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      seen.disconnect();
      start().catch((error) => {
        status.hidden = false;
        status.textContent = `The viewer cannot start in this browser (${error.message}). The pictures below show the same.`;
        console.error(error);
      });
    }
  });
  seen.observe(box);
})();
