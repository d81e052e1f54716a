"""From a page and a waveform probability to calibrated millivolts, or a refusal."""
