"""How good a churn risk is (shared metric definitions, section 6)."""

from fractions import Fraction

from models.kpi.exact import Exact, Reading, exact, none


def top_decile_lift(n: int, churners: int, churners_in_top_decile: int, top: Exact | None = None) -> Reading:
    """Churn rate of the riskiest tenth / churn rate of all [fight-churn 9.2]; 1 is chance.

    `top` is how many the riskiest tenth has where it is no exact tenth of n. Without accounts or churners it is null.
    """
    size = Fraction(n, 10) if top is None else exact(top)
    if not n or not churners or not size:
        return none("zero_denominator", n)
    return Reading(churners_in_top_decile / size / Fraction(churners, n), None, n)
