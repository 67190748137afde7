"""The page holds the end of a long conversation; its beginning moves in steps, and no turn is cut."""

from app.page.earlier.window import MIN_MESSAGES, STEP, earlier_button, num_folded


def test_the_latest_turns_are_always_held_and_the_beginning_moves_in_steps():
    folded = [num_folded(number) for number in range(0, 1000, 2)]
    assert all(number % 2 == 0 and number % STEP == 0 for number in folded)
    assert all(
        MIN_MESSAGES <= held < MIN_MESSAGES + STEP
        for number, hidden in zip(range(0, 1000, 2), folded, strict=True)
        if hidden
        for held in (number - hidden,)
    )
    assert num_folded(MIN_MESSAGES + STEP - 2) == 0


def test_the_button_counts_turns():
    assert earlier_button(0) == ""
    assert "Show earlier turns (1,200 more)" in earlier_button(2400)
