"""The KPIs of a portfolio, section by section: each is made from figures that were added up."""
