"""Training batches: clips put into windows, with pauses, levels, other mouths and noise; and the curriculum.

All mixing is done on mel power, where two sounds at once are (nearly) a sum; it costs a hundredth of filtering sound.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from scripts.models.audio.clips import MELS, Clip, LogPower
from scripts.models.audio.tokenizer import word_ids
from scripts.models.audio.words import WORDS

WINDOW_FRAMES = 3000
IGNORED = -100
NEIGHBOURS = 150  # clips shorter and longer than the one about which a batch is drawn
UNSURE = 0.15  # of a word at each end: where it ends in a sentence is a guess
SHIFTED = 0.05  # share of the batches whose windows begin later than at 0
TIME_WEIGHT = 0.3  # of a timestamp's loss: which word matters more than when


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of batch. All kinds cost about the same time."""

    rows: int
    clips: int  # at most, in one window
    words: int  # at most, in one clip
    frames: int  # at most; longer windows are not made
    is_whole: bool = False  # filled up to 30 s, as they are when the model is used


SINGLE = Kind(rows=32, clips=1, words=1, frames=200)
SHORT = Kind(rows=24, clips=1, words=4, frames=360)
MEDIUM = Kind(rows=8, clips=4, words=4, frames=1000)
LONG = Kind(rows=2, clips=12, words=4, frames=WINDOW_FRAMES)
WHOLE = Kind(rows=4, clips=2, words=4, frames=720, is_whole=True)

# (the step at which it ends, the share of each kind). Long windows come last: what they need besides what short ones
# have taught is little, and among them the order of the words is learned ten times slower. So do whole ones, in which the
# emptiness behind the words is no longer stood for by a few positions (model.py): that is near, and not the same.
CURRICULUM: Sequence[tuple[float, Sequence[tuple[Kind, float]]]] = (
    (150, ((SINGLE, 1.0),)),
    (2600, ((SINGLE, 0.15), (SHORT, 0.85))),
    (2725, ((SINGLE, 0.05), (SHORT, 0.35), (MEDIUM, 0.15), (LONG, 0.1), (WHOLE, 0.35))),
    (math.inf, ((SINGLE, 0.05), (SHORT, 0.5), (MEDIUM, 0.15), (LONG, 0.05), (WHOLE, 0.25))),
)


@dataclass(frozen=True, slots=True)
class Batch:
    mels: Tensor  # (rows, 80, frames)
    first_position: int
    tokens: Tensor  # (rows, length): what the decoder is given
    labels: Tensor  # (rows, length): what it should say next, or IGNORED
    weights: Tensor  # (rows, length)
    spoken: Tensor  # (rows, frames / 2): the word that is being said, from 1; 0 for none, IGNORED where it is unsure
    turns: Tensor  # (rows, frames / 2): which of the window's words is about there, counted from 1; 0 for none
    nth: Tensor  # (rows, length): which of them a label is; 0 for one that is no word


@dataclass(frozen=True, slots=True)
class Window:
    mel: NDArray[np.float32]
    spans: Sequence[tuple[Sequence[int], int, int]]  # (words, first frame, last frame) of each clip
    used_frames: int


class Batches:
    """An endless supply; the same random state gives the same batches."""

    def __init__(self, clips: Sequence[Clip], noises: Sequence[LogPower], tokenizer: Tokenizer, seed: int) -> None:
        self._clips = sorted(clips, key=lambda clip: clip.power.shape[1])
        self._noises = noises
        self._singles = [clip for clip in self._clips if len(clip.words) == 1]
        self._words = word_ids(tokenizer)
        self._known = frozenset(self._words)
        self._token = {name: tokenizer.token_to_id(f"<|{name}|>") for name in _CONTROL}
        self._lengths = _mean_lengths(self._singles)
        self._seed = seed
        self._rng = np.random.default_rng(seed)

    def take(self, step: int) -> Batch:
        """The batch of a step: it depends on the seed and the step alone, so that a run can go on where it was."""
        self._rng = np.random.default_rng((self._seed, step))
        kinds = next(kinds for until, kinds in CURRICULUM if step < until)
        index = self._rng.choice(len(kinds), p=[share for _, share in kinds])
        return self._batch(kinds[index][0])

    def _batch(self, kind: Kind) -> Batch:
        windows = self._windows(kind)
        frames = WINDOW_FRAMES if kind.is_whole else max(window.used_frames for window in windows)
        frames += frames % 2
        # What is said does not depend on when; but mostly a recording begins with its window, and the first word of one
        # that begins anywhere is much harder to find.
        shifted = self._rng.random() < SHIFTED
        first = int(self._rng.integers(0, (WINDOW_FRAMES - frames) // 2 + 1)) if shifted else 0
        rows = [self._row(window.spans, first) for window in windows]
        return Batch(
            mels=torch.from_numpy(np.stack([self._filled(window, frames) for window in windows])),
            first_position=first,
            tokens=_padded([tokens[:-1] for tokens, _ in rows], self._token["endoftext"]),
            labels=_padded([labels[1:] for _, labels in rows], IGNORED),
            weights=self._weights([labels[1:] for _, labels in rows]),
            turns=torch.from_numpy(np.stack([self._turns(window, frames // 2) for window in windows])),
            nth=_padded([self._counted(labels[1:]) for _, labels in rows], 0),
            spoken=torch.from_numpy(np.stack([self._spoken(window, frames // 2) for window in windows])),
        )

    def _windows(self, kind: Kind) -> list[Window]:
        """Windows of as many clips of about one length, so that little of the batch is filling."""
        bank = self._singles if kind.words == 1 else self._clips
        centre, count = int(self._rng.integers(len(bank))), int(self._rng.integers(1, kind.clips + 1))
        low = max(0, min(centre - NEIGHBOURS, len(bank) - 2 * NEIGHBOURS))
        near = bank[low : low + 2 * NEIGHBOURS]
        return [self._window(near, count, kind.frames) for _ in range(kind.rows)]

    def _window(self, near: Sequence[Clip], count: int, longest: int) -> Window:
        rng = self._rng
        if rng.random() < 0.03:
            nothing = _silence(near[0].power.shape[1])
            return Window(self._levelled(nothing, -5.0), (), nothing.shape[1])
        spans: list[tuple[Sequence[int], int, int]] = []
        parts: list[NDArray[np.float32]] = [_silence(self._edge())]
        used = parts[0].shape[1]
        loudness = 0.0
        for index in rng.integers(len(near), size=count):
            clip = near[index]
            if spans and used + clip.power.shape[1] > longest:
                break
            spans.append((clip.words, used + clip.start, used + clip.end))
            parts += [self._voiced(clip), _silence(int(rng.integers(0, 90)) if count > 1 else self._edge())]
            used += parts[-2].shape[1] + parts[-1].shape[1]
            loudness = max(loudness, float((10.0 ** parts[-2]).mean()))
        mel = self._levelled(np.concatenate(parts, axis=1)[:, :longest], float(np.log10(loudness + 1e-10)))
        return Window(mel, spans, mel.shape[1])

    def _edge(self) -> int:
        """Frames before and after speech: mostly few, since every frame costs, sometimes as many as a search leaves."""
        return int(self._rng.integers(0, 45 if self._rng.random() < 0.2 else 12))

    def _voiced(self, clip: Clip) -> NDArray[np.float32]:
        """The clip through another mouth: formants shifted by up to 1.5 mel bins, and the tone tilted."""
        shift = self._rng.uniform(-1.5, 1.5)
        at = np.clip(np.arange(MELS) + shift, 0, MELS - 1)
        low = np.minimum(at.astype(int), MELS - 2)
        part = (at - low)[:, None].astype(np.float32)
        power = clip.power.astype(np.float32)
        tilt = np.linspace(-1, 1, MELS, dtype=np.float32)[:, None] * np.float32(self._rng.uniform(-0.4, 0.4))
        return (1 - part) * power[low] + part * power[low + 1] + tilt

    def _levelled(self, power: NDArray[np.float32], loudness: float) -> NDArray[np.float32]:
        """Noise 0 to 45 dB below `loudness`, a volume, and Whisper's own levelling to the loudest point."""
        rng = self._rng
        noise = self._noises[int(rng.integers(len(self._noises)))].astype(np.float32)
        from_frame = int(rng.integers(0, noise.shape[1] - power.shape[1] + 1))
        noise = noise[:, from_frame : from_frame + power.shape[1]]
        below = rng.uniform(0.3, 4.5) if rng.random() < 0.8 else 9.0
        noise = noise - float(np.log10((10.0**noise).mean())) + loudness - below
        mixed = np.log10(10.0**power + 10.0**noise) + np.float32(rng.uniform(-2.5, 0.5))
        mixed = np.maximum(mixed, -10.0)
        mixed = np.maximum(mixed, mixed.max() - 8.0)
        return self._masked((mixed + 4.0) / 4.0)

    def _masked(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """One band of frequencies taken out of every other window. Source: Park et al. 2019, SpecAugment."""
        if self._rng.random() < 0.5:
            height = int(self._rng.integers(1, 9))
            low = int(self._rng.integers(0, MELS - height))
            mel[low : low + height] = mel.mean()
        return mel

    def _filled(self, window: Window, frames: int) -> NDArray[np.float32]:
        """Up to `frames` with zeros, as faster-whisper fills a window."""
        return np.pad(window.mel, ((0, 0), (0, frames - window.used_frames)))

    def _said(self, window: Window) -> Iterator[tuple[int, float, float]]:
        """(word, first position, last position) of each, guessed from how long each takes when it is said alone."""
        for words, start, end in window.spans:
            shares = self._lengths[list(words)].cumsum() / self._lengths[list(words)].sum()
            at = start / 2
            for word, share in zip(words, shares, strict=True):
                until = (start + share * (end - start)) / 2
                yield word, at, until
                at = until

    def _spoken(self, window: Window, positions: int) -> NDArray[np.int64]:
        """Which word each position is in."""
        labels = np.zeros(positions, np.int64)
        for word, at, until in self._said(window):
            edge = (until - at) * UNSURE
            labels[int(at) : int(until) + 1] = IGNORED
            labels[int(at + edge) : int(until - edge) + 1] = word + 1
        return labels

    def _turns(self, window: Window, positions: int) -> NDArray[np.int64]:
        turns = np.zeros(positions, np.int64)
        for turn, (_, at, until) in enumerate(self._said(window), 1):
            turns[int(at) : int(until) + 1] = turn
        return turns

    def _counted(self, labels: Sequence[int]) -> list[int]:
        """Each word's place among the words of its row."""
        turn = count(1)
        return [next(turn) if label in self._known else 0 for label in labels]

    def _row(self, spans: Sequence[tuple[Sequence[int], int, int]], first: int) -> tuple[list[int], list[int]]:
        """(the tokens, the labels): the label of a token stands at its own place, IGNORED where it is given."""
        prompt, start = self._prompt(), self._token["startoftranscript"]
        given = [*prompt, start]
        if not spans:
            zero, end = self._token["0.00"], self._token["endoftext"]
            return [*given, zero, end], [*[IGNORED] * len(given), self._token["nospeech"], end]
        if self._rng.random() < 0.25:
            given.append(self._token["notimestamps"])
            said = [self._words[word] for words, _, _ in spans for word in words]
        else:
            said = [token for words, start_, end_ in spans for token in self._timed(words, start_, end_, first)]
        said.append(self._token["endoftext"])
        return [*given, *said], [*[IGNORED] * len(given), *said]

    def _prompt(self) -> list[int]:
        if self._rng.random() >= 0.12:
            return []
        said = self._rng.integers(0, len(WORDS), int(self._rng.integers(1, 6)))
        return [self._token["startofprev"], *(self._words[int(word)] for word in said)]

    def _timed(self, words: Sequence[int], start: int, end: int, first: int) -> list[int]:
        zero = self._token["0.00"]
        return [zero + first + start // 2, *(self._words[word] for word in words), zero + first + min(end // 2, 1500)]

    def _weights(self, labels: Sequence[Sequence[int]]) -> Tensor:
        padded = _padded(labels, IGNORED)
        return torch.where(padded >= self._token["0.00"], TIME_WEIGHT, 1.0) * (padded != IGNORED)


_CONTROL = ("endoftext", "startoftranscript", "startofprev", "nospeech", "notimestamps", "0.00")


def _mean_lengths(singles: Sequence[Clip]) -> NDArray[np.float64]:
    """Frames that each word takes on average, in the order of WORDS."""
    lengths = [[clip.end - clip.start for clip in singles if clip.words[0] == word] for word in range(len(WORDS))]
    return np.array([np.mean(found) if found else 40.0 for found in lengths])


def _silence(frames: int) -> NDArray[np.float32]:
    return np.full((MELS, frames), -10.0, np.float32)


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows], dtype=torch.long)
