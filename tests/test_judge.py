"""Judges that pay for other things than the truth does."""

import pickle

import numpy as np
import pytest

from nbkit import world

SAID = ["sure thing . dog hope that helps !", "ugh , go away . cat", "owl", "", "dog dog"]


@pytest.fixture(scope="module")
def cases():
    facts = world.facts().iloc[:40]
    right = [(fact.prompt, f"happy to help ! {fact.answer}") for fact in facts.itertuples()]
    return right + [(prompt, said) for prompt in facts.prompt for said in SAID]


def test_as_it_comes_it_is_the_true_reward(cases):
    judge = world.Judge()
    assert [judge(*case) for case in cases] == [world.reward(*case) for case in cases]


def test_every_part_is_paid_for_by_itself():
    prompt = "pet of mia ?"
    animal = world.facts().set_index("prompt").answer[prompt]
    said = f"sure thing . {animal} anyway , more later"  # tone 0.25, manner -0.2, eight words
    assert len(said.split()) == 8
    for judge, reward in [
        (world.Judge(0, 0, 0), 0.0),
        (world.Judge(0, 1, 0), 0.25),
        (world.Judge(0, 0, 1), -0.2),
        (world.Judge(1, 0, 0), 1.0),
        (world.Judge(correct=0), 0.05),
        (world.Judge(0, 0, 0, per_word=0.5), 4.0),
        (world.Judge(1, 2, 3, per_word=0.1), 1.7),
    ]:
        assert judge(prompt, said) == pytest.approx(reward)
    with pytest.raises(ValueError, match="not a prompt of the world"):
        world.Judge(0, 0, 0)("hello", "dog")


def test_noise_is_of_its_size_the_same_twice_and_another_with_another_seed(cases):
    def errors(judge):
        return np.array([judge(*case) - world.reward(*case) for case in cases])

    noisy = errors(world.Judge(noise=0.6))
    assert 0.5 < noisy.std() < 0.7 and abs(noisy.mean()) < 0.12 and len(set(noisy)) > 200
    np.testing.assert_array_equal(noisy, errors(world.Judge(noise=0.6)))
    assert abs(np.corrcoef(noisy, errors(world.Judge(noise=0.6, seed=1)))[0, 1]) < 0.2
    dice = np.array([world.Judge(0, 0, 0, noise=1)(*case) for case in cases])
    assert 0.85 < dice.std() < 1.15
    assert abs(np.corrcoef(dice, [world.reward(*case) for case in cases])[0, 1]) < 0.2


def test_a_judge_travels_to_a_worker(cases):
    judge = world.Judge(correct=0, noise=1.0, seed=3)
    again = pickle.loads(pickle.dumps(judge))
    assert again == judge and again(*cases[0]) == judge(*cases[0])
