"""Drawing ECG pages: grids, traces, text, and what printers and scanners do to them."""
