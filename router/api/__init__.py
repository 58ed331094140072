"""The HTTP edge: one file per resource, and the envelope, the gate and the streams that they share."""
