"""Images, boxes and metrics of detectors and classifiers, for evaluators."""
