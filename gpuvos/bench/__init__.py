"""What the method costs: workloads, stages, peers, roofline, records, cost curves; ``gpuvos bench`` prints them."""
