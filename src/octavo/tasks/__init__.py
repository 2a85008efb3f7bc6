"""Tasks: all that is special to classification or to segmentation, behind one protocol."""
