"""The sizes of experiments, from that of the paper to one for automatic tests."""

import dataclasses
from collections.abc import Mapping

Settings = Mapping[str, str]  # field of a recipe -> value, as training.train takes them by --set


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """What a size changes of the recipes. The paper's size changes nothing.

    Attributes:
      name: value of --scale.
      settings: of every recipe.
      settings_by_recipe: recipe -> more settings, which win over those of every recipe.
      stand_ins: recipe -> another recipe, whose run is exactly the same at this size.
      overrides: --set; wins over all other settings.
      learning_rates: default of --learning-rates; none for that of the recipe at this size.
      tuned_with: recipe -> another recipe, whose learning rate it has; others have a sweep each.
      options_by_recipe: recipe -> options that one is chosen of, name -> settings.
      num_seeds: default of --seeds.
      num_seeds_by_run: run -> another default; a run that several tables have is the same in all.
      soundtracks: of a composed corpus, as --soundtracks of pipelines.compose_soundtracks.
      subsets: of the training split, as --subsets of pipelines.prepare_dataset.
      balanced_sets: of the evaluation split, as --balanced-sets.
      evaluated: the balanced set that is scored; None for the whole split.
      all_labels: the balanced set of all labels, for Figure 1; None for the whole split.
      all_labels_patches: approximate number of patches of that set.
      figure_share: share of the classes in Figure 1.
      few_labels: size of the label set that Table 3 is evaluated on.
      evaluation_patches: approximate number of patches to score.
      clips: approximate number of clips for event detection.
    """

    name: str
    settings: Settings = dataclasses.field(default_factory=dict)
    settings_by_recipe: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    stand_ins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    overrides: Settings = dataclasses.field(default_factory=dict)
    learning_rates: tuple[str, ...] = ()
    tuned_with: Mapping[str, str] = dataclasses.field(default_factory=dict)
    options_by_recipe: Mapping[str, Mapping[str, Settings]] = dataclasses.field(
        default_factory=dict
    )
    num_seeds: int = 1
    num_seeds_by_run: Mapping[str, int] = dataclasses.field(default_factory=dict)
    soundtracks: tuple[str, ...] = ()
    subsets: str
    balanced_sets: str = ""
    evaluated: str | None = None
    all_labels: str | None = None
    all_labels_patches: int
    figure_share: float = 1.0
    few_labels: int
    evaluation_patches: int
    clips: int

    def run_of(self, recipe: str) -> str:
        """The recipe whose run is that of `recipe`."""
        return self.stand_ins.get(recipe, recipe)

    @property
    def num_soundtracks(self) -> int:
        """The size of a composed corpus, of all splits together."""
        return sum(int(number.rpartition("=")[2]) for number in self.soundtracks)

    def settings_of(self, recipe: str) -> Settings:
        """The settings of a recipe for soundtracks."""
        return {**self.settings, **self.settings_by_recipe.get(recipe, {}), **self.overrides}


# Sections 3.2 and 4.1 to 4.3. The splits are those of the manifest of the user.
PAPER = Scale(
    name="paper",
    stand_ins={"resnet50_3k": "resnet50"},
    # Around the only rate that the paper gives, 3e-5, and those of our recipes.
    learning_rates=("3e-5", "1e-4", "3e-4", "1e-3"),
    num_seeds=3,
    subsets="23000,70000,700000,7000000",
    balanced_sets="400,3087,30871",
    evaluated="3087",
    few_labels=400,
    evaluation_patches=100_000 * 288,
    all_labels="30871",
    all_labels_patches=1_000_000 * 288,
    figure_share=0.2,
    clips=1_000_000,  # section 4.4
)

_STEPS = 300
_LONGER = {"steps": str(17 * _STEPS // 5), "learning_rate_cuts": f"{13 * _STEPS // 5}:0.1"}
_EVENTS = {"width": "1", "steps": "2000"}
# Rows that train the network of `resnet50` on other labels or videos, or for longer.
_LIKE_RESNET50 = (
    *("resnet50_17m", "resnet50_3k", "resnet50_400"),
    *("resnet50_bottleneck_30k", "resnet50_bottleneck_3k", "resnet50_bottleneck_400"),
    *("resnet50_70m_videos", "resnet50_7m_videos", "resnet50_700k_videos"),
    *("resnet50_70k_videos", "resnet50_23k_videos"),
)
# Patches of log-mel are shorter than those of embeddings: equal patches are not equal sound.
_STEPS_OF_EVENTS = {f"{steps}_steps": {"steps": steps} for steps in ("500", "2000", "4000")}
_TABLE_2 = ("fully_connected", "alexnet", "vgg", "inception_v3", "resnet50", "resnet50_17m")
_DETECTORS = ("audio_set_log_mel", "audio_set_embeddings", "yamnet_embeddings")
SMALL = Scale(
    name="small",
    settings={"width": "0.25", "steps": str(_STEPS)},
    settings_by_recipe={
        "fully_connected": {"width": "1"},  # cheap at full width
        "small": {"width": "1"},  # a ResNet-50 at a quarter of the width has more multiplies
        "resnet50_17m": _LONGER,
        "resnet50_3k": {"num_labels": "30"},
        "resnet50_400": {"num_labels": "10"},
        "resnet50_bottleneck_30k": {"bottleneck_units": "32"},
        "resnet50_bottleneck_3k": {"num_labels": "30", "bottleneck_units": "32"},
        "resnet50_bottleneck_400": {"num_labels": "10", "bottleneck_units": "32"},
        # After as few steps as in Table 2 large sets look equal, since networks have not learnt yet
        # what there is in them.
        "resnet50_7m_videos": {"training_subset": "1778", **_LONGER},
        "resnet50_700k_videos": {"training_subset": "316", **_LONGER},
        "resnet50_70k_videos": {"training_subset": "56", **_LONGER},
        "resnet50_23k_videos": {"training_subset": "10", **_LONGER},
        "audio_set_log_mel": _EVENTS,
        "audio_set_embeddings": _EVENTS,
    },
    # Tables 2 and 4 are trained on all labels, and Table 4 for as many steps as the longer run.
    stand_ins={"resnet50_30k": "resnet50", "resnet50_70m_videos": "resnet50_17m"},
    learning_rates=("3e-4", "1e-3", "3e-3"),
    tuned_with=dict.fromkeys(_LIKE_RESNET50, "resnet50"),
    options_by_recipe=dict.fromkeys(
        ("audio_set_log_mel", "audio_set_embeddings"), _STEPS_OF_EVENTS
    ),
    num_seeds=3,
    # Those of Table 2, and those for event detection, which are cheap.
    num_seeds_by_run=dict.fromkeys((*_TABLE_2, *_DETECTORS), 5),
    soundtracks=("train=10000", "validation=1000", "evaluation=1000"),
    # With all, five sizes over three decades.
    subsets="10,56,316,1778",
    few_labels=10,
    evaluation_patches=36_000,
    all_labels_patches=36_000,
    clips=1_598,
)

TINY = Scale(
    name="tiny",
    settings={"width": "0.1", "batch_size": "16", "steps": "6"},
    settings_by_recipe={
        "fully_connected": {"learning_rate": "1e-3", "steps": "40"},
        "resnet50_17m": {"steps": "12", "learning_rate_cuts": "9:0.1"},
        "resnet50_3k": {"num_labels": "10"},
        "resnet50_400": {"num_labels": "5"},
        "resnet50_bottleneck_3k": {"num_labels": "10"},
        "resnet50_bottleneck_400": {"num_labels": "5"},
        "resnet50_7m_videos": {"training_subset": "8"},
        "resnet50_700k_videos": {"training_subset": "4"},
        "resnet50_70k_videos": {"training_subset": "2"},
        "resnet50_23k_videos": {"training_subset": "1"},
        "audio_set_log_mel": {"learning_rate": "1e-3", "steps": "40"},
        "audio_set_embeddings": {"learning_rate": "1e-3", "steps": "40"},
    },
    stand_ins={"resnet50_30k": "resnet50", "resnet50_70m_videos": "resnet50"},
    soundtracks=("train=8", "validation=4", "evaluation=4"),
    subsets="1,2,4,8",
    few_labels=5,
    evaluation_patches=150,
    all_labels_patches=150,
    clips=16,
)

SCALES = {scale.name: scale for scale in (PAPER, SMALL, TINY)}
