"""QUIZ: query point matching for rigid registration of CT pairs that start far apart."""
