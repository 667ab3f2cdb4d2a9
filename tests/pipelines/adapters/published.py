"""Small data sets in the exact formats of their publishers, with invented rows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Three comment lines, the last with the columns; a blank after each comma; quoted lists.
BALANCED = """\
# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=4, num_segs=4, num_unique_labels=4, num_positive_labels=6
# YTID, start_seconds, end_seconds, positive_labels
--aaaaaaaaa, 30.000, 40.000, "/m/bark,/m/music"
bbbbbbbbbb_, 0.000, 10.000, "/m/speech"
ccccccccccc, 120.000, 130.000, "/m/bark,/t/dd00001"
ddddddddddd, 5.000, 15.000, "/m/music"
"""
EVAL = """\
# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=2, num_segs=2, num_unique_labels=2, num_positive_labels=2
# YTID, start_seconds, end_seconds, positive_labels
eeeeeeeeeee, 30.000, 40.000, "/m/bark"
fffffffffff, 20.000, 30.000, "/m/speech"
"""
CLASS_LABELS = """\
index,mid,display_name
0,/m/speech,"Speech"
1,/m/bark,"Bark"
2,/m/music,"Music"
3,/t/dd00001,"Male speech, man speaking"
"""
ESC50 = """\
filename,fold,target,category,esc10,src_file,take
1-100001-A-0.wav,1,0,dog,True,100001,A
2-100002-A-36.wav,2,36,vacuum_cleaner,False,100002,A
3-100003-A-0.wav,3,0,dog,True,100003,A
3-100003-B-0.wav,3,0,dog,True,100003,B
4-100004-A-0.wav,4,0,dog,True,100004,A
5-100005-A-36.wav,5,36,vacuum_cleaner,False,100005,A
"""
FSD50K_DEV = """\
fname,labels,mids,split
64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train
16399,Bark,/m/05tny_,val
"""
FSD50K_EVAL = """\
fname,labels,mids
37199,"Accelerating_and_revving_and_vroom,Engine","/m/07q2z82,/m/02mk9"
"""
FSD50K_VOCABULARY = """\
0,Accelerating_and_revving_and_vroom,/m/07q2z82
1,Bark,/m/05tny_
2,Electric_guitar,/m/02sgy
3,Engine,/m/02mk9
4,Guitar,/m/0342h
5,Music,/m/04rlf
"""
CLIP_LIST = """\
clip_id,path,label,fold,group,source
esc50-1,audio/esc50/1.ogg,dog,1,fs1,esc50
esc50-2,audio/esc50/2.ogg,air conditioner,4,fs2,esc50
us8k-1,audio/us8k/1.ogg,dog,2,fs3,urbansound8k
us8k-2,audio/us8k/2.ogg,dog,3,,urbansound8k
"""
YOUTUBE8M = """\
Index,TrainVideoCount,KnowledgeGraphId,Name,WikiUrl,Vertical1,Vertical2,Vertical3,WikiDescription
0,788288,/m/03bt1gh,Game,https://en.wikipedia.org/wiki/Game,Games,,,"A game is structured play, \
usually for enjoyment."
1,539945,/m/01mw1,,,Arts & Entertainment,Games,,
"""


def ontology(children: dict[str, Sequence[str]], restricted: Sequence[str] = ()) -> str:
    """Make an `ontology.json` of these labels, each named by its id without the prefix."""
    entries: list[dict[str, Any]] = [
        {
            "id": label,
            "name": label.removeprefix("/m/").capitalize(),
            "description": "An invented sound.",
            "citation_uri": "",
            "positive_examples": [],
            "child_ids": list(below),
            "restrictions": ["abstract"] if label in restricted else [],
        }
        for label, below in children.items()
    ]
    return json.dumps(entries)


ONTOLOGY = {
    "/m/root": ["/m/animal", "/m/human"],
    "/m/animal": ["/m/dog"],
    "/m/dog": ["/m/bark"],
    "/m/human": ["/m/speech"],
    "/m/domestic": ["/m/dog"],
    "/m/speech": ["/t/dd00001"],
    "/t/dd00001": [],
    "/m/bark": [],
    "/m/music": [],
}


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write text files below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def audioset(folder: Path) -> Path:
    return write(
        folder,
        {
            "balanced_train_segments.csv": BALANCED,
            "eval_segments.csv": EVAL,
            "class_labels_indices.csv": CLASS_LABELS,
            "ontology.json": ontology(ONTOLOGY, ["/m/root"]),
        },
    )


def fsd50k(folder: Path) -> Path:
    info = {"title": "guitar.wav", "description": "", "tags": [], "license": "CC0"}
    return write(
        folder,
        {
            "FSD50K.ground_truth/dev.csv": FSD50K_DEV,
            "FSD50K.ground_truth/eval.csv": FSD50K_EVAL,
            "FSD50K.ground_truth/vocabulary.csv": FSD50K_VOCABULARY,
            "FSD50K.metadata/dev_clips_info_FSD50K.json": json.dumps(
                {"64760": {**info, "uploader": "casa"}, "16399": {**info, "uploader": "blau"}}
            ),
        },
    )


def touch(folder: Path, *names: str) -> Path:
    """Create empty files, for tests of names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder
