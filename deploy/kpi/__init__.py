"""`churnwatch kpi`: the KPIs of a month from what workers publish on `portfolio-metrics`."""
