"""Images, boxes and metrics of detectors and classifiers, as evaluations need them."""
