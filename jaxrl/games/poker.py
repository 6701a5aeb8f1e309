"""Kuhn poker."""

from jaxrl.games.extensive import Chance, Decision, Extensive, Outcome, enumerated

CARDS = "JQK"
DEALS = [(i, j) for i in range(3) for j in range(3) if i != j]  # cards of the first and the second
ACTIONS = "pb"


def kuhn_rules(history: tuple[int, ...]) -> Chance | Decision | Outcome:
    """The rules of Kuhn poker (Kuhn, 1950), as a function of the history."""
    if not history:
        return Chance([1 / len(DEALS)] * len(DEALS))
    cards, actions = DEALS[history[0]], "".join(ACTIONS[a] for a in history[1:])
    if actions in ("", "p", "b", "pb"):
        player = len(actions) % 2
        return Decision(player, CARDS[cards[player]] + actions, 2)
    if actions in ("bp", "pbp"):  # the player that did not bet loses the ante
        won = 1 if actions == "bp" else -1
    else:
        won = (1 if cards[0] > cards[1] else -1) * (2 if actions.endswith("bb") else 1)
    return Outcome((won, -won))


def kuhn() -> Extensive:
    """Kuhn poker (Kuhn, 1950): two players with one of the cards J, Q, K each, and an ante of 1.

    Actions: 0 is to pass or to fold, 1 to bet one or to call. An information set is the own card
    and the actions so far, p and b, as "Kpb". In equilibrium the first player loses 1/18 per game.
    """
    return enumerated(kuhn_rules)
