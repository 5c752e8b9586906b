"""`churnwatch examples`: worked examples of the metrics, calculated by the product and compared with what they should give."""
