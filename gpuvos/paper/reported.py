"""The paper's numbers, in per cent, each table by its number; "appendix" tables are 6 and 7.

Source: Li et al., Instance Embedding Transfer to Unsupervised Video Object Segmentation, CVPR 2018.
"""

from __future__ import annotations

SOURCE = "Li et al., CVPR 2018"

# Table 1, DAVIS-2016 val: mean J, mean F.
MAIN_DAVIS_VAL = {
    "NLC": (55.1, 52.3),
    "CUT": (55.2, 55.2),
    "FST": (55.8, 51.1),
    "SFL": (67.4, 66.7),
    "LVO": (75.9, 72.1),
    "MP": (70.0, 65.9),
    "FSEG": (70.7, 65.3),
    "ARP": (76.2, 70.6),
    "paper + CRF": (78.5, 75.5),
}
# Section 4.2 and Table 6, DAVIS-2016 train: mean J. The paper gives no F there.
MAIN_DAVIS_TRAIN = {"ARP": 76.3, "FSEG": 72.2, "paper": 77.5, "paper + CRF": 79.5}
# Table 2, FBMS-59 test: F-score, mean J; None where the paper has no number.
MAIN_FBMS_TEST: dict[str, tuple[float | None, float | None]] = {
    "NLC": (None, 44.5),
    "CUT": (76.8, None),
    "FST": (69.2, 55.5),
    "CVOS": (74.9, None),
    "LVO": (77.8, None),
    "MP": (77.5, None),
    "ARP": (None, 59.8),
    "paper": (82.8, 71.9),
}
# Section 4.3, SegTrack-v2: mean J.
MAIN_SEGTRACK = {"LVO": 57.3, "FST": 54.3, "NLC": 67.2, "paper": 59.3}

# Table 3, DAVIS-2016 train: mean J by frames between adaptations; None is never.
ADAPTATION: dict[int | None, float] = {1: 77.5, 5: 76.4, 10: 75.9, 20: 75.0, 40: 73.6, None: 70.5}

# Table 4, DAVIS-2016 train: accuracy of the initial foreground seed, mean J.
SALIENCY = {"motion": (90.6, 74.3), "objectness": (88.2, 75.7), "both": (94.6, 77.5)}

# Table 5, DAVIS-2016 val, semi-supervised: mean J.
SEMI = {"OnAVOS": 86.1, "OSVOS": 79.8, "SFL": 76.1, "MSK": 79.7, "VPN": 70.2, "paper": 77.6}

# Section 4.4, DAVIS-2016 train: mean J with features of DeepLab (fc7) in place of the embedding.
FC7 = 65.2

# Tables 6 and 7: J of ARP, FSEG, the paper, the paper with CRF.
_SEQUENCES = """
bear 92.0 90.7 93.5 95.2
bmx-bumps 45.9 32.8 43.1 49.4
boat 43.6 66.3 65.2 49.1
breakdance-flare 81.5 76.3 80.9 84.3
bus 84.9 82.5 84.8 84.2
car-turn 87.0 90.3 92.3 92.1
dance-jump 71.8 61.2 67.4 71.6
dog-agility 32.0 75.7 70.0 70.8
drift-turn 79.6 86.4 81.5 79.8
elephant 84.2 84.3 82.8 81.6
flamingo 81.2 75.7 63.3 67.9
hike 90.7 76.9 87.1 90.7
hockey 76.4 70.3 81.7 87.8
horsejump-low 76.9 71.1 82.1 83.2
kite-walk 59.9 48.9 59.8 64.1
lucia 86.8 77.3 86.3 91.0
mallard-fly 56.1 69.5 68.3 69.9
mallard-water 58.3 79.4 76.0 81.1
motocross-bumps 85.2 77.5 84.9 88.4
motorbike 73.6 40.7 68.5 70.8
paragliding 88.1 47.4 82.0 87.3
rhino 88.4 87.5 86.0 83.5
rollerblade 83.9 68.7 85.1 89.6
scooter-gray 70.5 73.3 68.6 65.5
soccerball 82.4 79.7 84.9 90.5
stroller 85.7 66.7 72.2 75.8
surf 93.9 88.1 87.0 90.2
swing 79.6 74.1 82.2 86.8
tennis 78.4 70.7 81.7 86.6
train 91.5 76.1 76.6 76.5
blackswan 88.1 81.2 71.5 78.6
bmx-trees 49.9 43.3 49.6 49.9
breakdance 76.2 51.2 48.5 55.5
camel 90.3 83.6 90.2 92.9
car-roundabout 81.6 90.7 88.0 88.0
car-shadow 73.6 89.6 92.9 93.0
cows 90.8 86.9 91.0 92.5
dance-twirl 79.8 70.4 78.1 79.7
dog 71.8 88.9 90.6 93.6
drift-chicane 79.7 59.6 76.0 77.5
drift-straight 71.5 81.1 88.4 85.7
goat 77.6 83.0 86.1 86.4
horsejump-high 83.8 65.2 79.4 85.1
kite-surf 59.1 39.2 56.9 64.7
libby 65.4 58.4 68.6 74.3
motocross-jump 82.3 77.5 75.4 77.8
paragliding-launch 60.1 57.1 59.5 62.4
parkour 82.8 76.0 85.2 90.9
scooter-black 74.6 68.8 72.7 74.0
soapbox 84.6 62.4 66.8 67.0
"""
SEQUENCE_COLUMNS = ("ARP", "FSEG", "paper", "paper + CRF")
SEQUENCES = {
    name: tuple(float(value) for value in values)
    for name, *values in (line.split() for line in _SEQUENCES.split("\n") if line)
}
