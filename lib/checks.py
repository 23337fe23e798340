"""One form for every refusal: the parameter, its value, and what is allowed; and what went wrong on the way."""


class BadInput(ValueError):
    """An argument outside its allowed range. The message is one line, fit to be shown as it is."""


class NotFinite(ArithmeticError):
    """A computation gave an infinity or NaN; the message says where, and what was stored before is good."""


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise `BadInput("name = value: must be <allowed>")` unless `condition` holds."""
    if not condition:
        raise BadInput(f"{name} = {value!r}: must be {allowed}")
