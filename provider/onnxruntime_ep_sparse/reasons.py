"""The reasons why a node is taken or stays with the CPU provider: one row each, from which `analyze`, JSON and `docs/reasons.md` come.

Imports nothing of the package, so that every folder can give a reason.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of the table.

    `code` is stable: programs may compare it. `text` is a format string with named fields. `advice` is one sentence that says what the
    user can do. `option` is the provider option that overrides the decision, "" if there is none.
    """

    code: str
    text: str
    advice: str
    option: str = ""

    def __call__(self, **values: object) -> Finding:
        """Return this reason with its fields filled in. KeyError if one is missing."""
        limit = values.get("limit")
        return Finding(self, self.text.format(**values), limit if isinstance(limit, float) else None)


@dataclass(frozen=True, slots=True)
class Finding:
    """A reason as it applies to one node: its row, its text with the fields filled in, and the sparsity that decides, if one does."""

    reason: Reason
    text: str
    limit: float | None = None

    @property
    def code(self) -> str:
        """Return the stable name of the reason."""
        return self.reason.code

    @property
    def advice(self) -> str:
        """Return what the user can do."""
        return self.reason.advice

    @property
    def option(self) -> str:
        """Return the provider option that overrides the decision, or ""."""
        return self.reason.option

    def __str__(self) -> str:
        """Return the text."""
        return self.text


# --- nodes that are taken

ONLY_HERE = Reason(
    "only-here",
    "the CPU provider cannot run it",
    "Nothing to do: the CPU provider has no kernel for this node, so that it is taken whatever its sparsity.",
)
ABOVE_BREAK_EVEN = Reason(
    "above-break-even",
    "sparsity {about}{sparsity:.1%}, break-even {limit:.1%}",
    "Set min_sparsity above this sparsity to leave the node to the CPU provider.",
)
ABOVE_MIN_SPARSITY = Reason(
    "above-min-sparsity",
    "sparsity {about}{sparsity:.1%}, min_sparsity {limit:.1%}",
    "Raise min_sparsity above this sparsity to leave the node to the CPU provider, or leave it out to let the provider judge.",
    "min_sparsity",
)
DEAD_CHANNELS = Reason(
    "dead-channels",
    "taken: removing dead channels leaves {left:.1%} of its weights",
    "Set min_sparsity to judge the node by the sparsity of its whole weight instead.",
)
NEIGHBOUR = Reason(
    "neighbour",
    "neighbour of pruned nodes in its region",
    "Nothing needs to be done: handing the tensor over to the CPU provider here would cost more time than it saves.",
)
POLICY_ALWAYS = Reason(
    "policy-always",
    "policy is always",
    "Use policy=auto to take only nodes that are expected to become faster.",
)
MEASURED_FASTER = Reason(
    "measured-faster",
    "measured: {figures}",
    "Use policy=auto to have the node judged by an estimate instead.",
)
COMPILED = Reason(
    "compiled",
    "compiled: by version {version}{notes}",
    "Run the original model instead to have its nodes judged again: no option applies to a compiled region.",
)

# --- nodes that could run, and would not be faster

POLICY_NEVER = Reason(
    "policy-never",
    "policy is never",
    "Use policy=auto to take nodes that are expected to become faster.",
    "policy=auto",
)
BELOW_BREAK_EVEN = Reason(
    "below-break-even",
    "sparsity {about}{sparsity:.1%} is below the break-even {limit:.1%}",
    "Prune the layer further, fix the batch size if it is open, or lower min_sparsity.",
    "min_sparsity",
)
BELOW_MIN_SPARSITY = Reason(
    "below-min-sparsity",
    "sparsity {about}{sparsity:.1%} is below min_sparsity {limit:.1%}",
    "Prune the layer further, lower min_sparsity, or leave it out to let the provider judge.",
    "min_sparsity",
)
TOO_SMALL = Reason(
    "too-small",
    "too small to gain from sparsity",
    "Leave the node to the CPU provider, or use policy=always to take it all the same.",
    "policy=always",
)
REGION_TOO_SMALL = Reason(
    "region-too-small",
    "the region around it: expected to save {ms:.3f} of {cpu_ms:.3f} ms, too little",
    "Prune more of the layers next to each other, or use policy=always to take the region all the same.",
    "policy=always",
)
MEASURED_SLOWER = Reason(
    "measured-slower",
    "the region around it was measured: {figures}",
    "Prune more of the layers next to each other, or use policy=always to take the region all the same.",
    "policy=always",
)
NOT_MEASURED = Reason(
    "not-measured",
    "{reason}; not measured: {why}",
    "Raise measure_budget_ms if the time was used up: what cannot be measured is decided as by policy=auto.",
)
NOT_ADJACENT = Reason(
    "not-adjacent",
    "not next to a node that is taken",
    "Nothing needs to be done: a node without a pruned weight is only taken together with one that has one.",
)

# --- nodes that the provider does not run

TAKEN_BY_OTHER = Reason(
    "taken-by-other",
    "already taken by {provider}",
    "List SparseExecutionProvider before that provider when you create the session.",
)
IN_SUBGRAPH = Reason(
    "in-subgraph",
    "inside the body of a control-flow node",
    "Move the layer out of If, Loop or Scan: their bodies run on the CPU provider.",
)
CONSTANTS_UNREADABLE = Reason(
    "constants-unreadable",
    "its constants cannot be read: {error}",
    "Check that the files with the model's weights are complete and can be read.",
)
NOT_EXAMINED = Reason(
    "not-examined",
    "not examined, {error}",
    "Report this error to the project: the provider failed, and the model runs on the CPU provider.",
)
NAME_NOT_UNIQUE = Reason(
    "name-not-unique",
    "several tensors are named {name!r}, as far as ONNX Runtime says",
    "Rename these tensors: names that are equal up to a NUL byte, or begin with one, cannot be told apart.",
)
UNSUPPORTED_OPERATOR = Reason(
    "unsupported-operator",
    "operator {operator} is not supported",
    "Leave the node to the CPU provider: docs/supported-models.md lists the supported operators.",
)
BLOCKED_LAYOUT = Reason(
    "blocked-layout",
    "{operator} is in ONNX Runtime's blocked layout, and a region cannot hold all that shares a value in it",
    "Save the optimized model at ORT_ENABLE_EXTENDED or lower, not at ORT_ENABLE_ALL, or use the model as it was before.",
)
OTHER_BLOCKS = Reason(
    "other-blocks",
    "its blocks have {saved} channels, those of ONNX Runtime on this CPU {here}: the CPU provider fails here or gives wrong results",
    "Save the optimized model at ORT_ENABLE_EXTENDED or lower, not at ORT_ENABLE_ALL, or save it on this kind of CPU.",
)
OPSET_TOO_OLD = Reason(
    "opset-too-old",
    "version {version} of the operator is not supported, {first} is the first",
    "Convert the model to a newer opset with onnx.version_converter.",
)
NOT_FLOAT32 = Reason(
    "not-float32",
    "type {type} is not supported, only float32, float16 and bfloat16",
    "Export the model in float32, float16 or bfloat16: other types run on the CPU provider here.",
)
TYPE_NOT_SUPPORTED = Reason(
    "type-not-supported",
    "type {type} is not supported, only float32, float16, bfloat16, int8 and uint8",
    "Quantise the model with 8-bit weights and activations: other integers run on the CPU provider.",
)
QUANTISED = Reason(
    "quantised",
    "{operator} multiplies quantised weights in a way that is not supported",
    "Quantise activations too, in the form QDQ or QOperator: docs/supported-models.md lists what runs.",
)
QUANTISATION_TYPE = Reason(
    "quantisation-type",
    "{what} has the type {type}, {supported} is supported",
    "Quantise with 8-bit weights and activations, and zero points of the same type as what they belong to.",
)
QUANTISATION_SCALE = Reason(
    "quantisation-scale",
    "{what} is not a positive finite number",
    "Quantise the model again with other calibration data: this scale cannot have been meant.",
)
QUANTISATION_AXIS = Reason(
    "quantisation-axis",
    "{what} is not one number, nor one for each {of}",
    "Quantise per tensor, or weights per output channel.",
)
SUM_TOO_LARGE = Reason(
    "sum-too-large",
    "sums of its integers may reach {largest:.0f}, up to {limit:.0f} is exact",
    "Prune the layer further, or split it along its input channels.",
)
PART_OF_OTHER = Reason(
    "part-of-other",
    "a part of {operator} {name!r}",
    "See the reason of that node: both are decided together.",
)
TYPE_UNKNOWN = Reason(
    "type-unknown",
    "type of {name!r} is unknown",
    "Run onnx.shape_inference.infer_shapes over the model, which writes types into it.",
)
RANK_UNKNOWN = Reason(
    "rank-unknown",
    "rank of {name!r} is unknown",
    "Run onnx.shape_inference.infer_shapes over the model, or make the shapes that it reshapes to constant.",
)
UNSUPPORTED_RANK = Reason(
    "unsupported-rank",
    "{rank} dimensions: {supported} are supported",
    "Reshape the tensor to a supported rank before this node.",
)
UNSUPPORTED_SPATIAL_RANK = Reason(
    "unsupported-spatial-rank",
    "{rank} spatial dimensions: {supported} are supported",
    "Leave the node to the CPU provider, or reshape the tensor to fewer spatial dimensions before it.",
)
UNSUPPORTED_OPERAND_COUNT = Reason(
    "unsupported-operand-count",
    "{count} operands: {supported} are supported",
    "Split the node into several nodes with fewer operands.",
)
EXTRA_OUTPUTS = Reason(
    "extra-outputs",
    "only the first output is supported",
    "Remove the further outputs of the node from the model if nothing reads them.",
)
EXTRA_INPUT = Reason(
    "extra-input",
    "input {name} is not supported",
    "Export the model without it, or leave the node to the CPU provider.",
)
UNSUPPORTED_PAST = Reason(
    "unsupported-past",
    "the past is of another form: {supported} is supported",
    "Give keys and values of earlier positions as ONNX defines them, or none.",
)
UNSUPPORTED_MASK = Reason(
    "unsupported-mask",
    "this kind of mask is not supported, only {supported}",
    "Give the optimizer that wrote the file a mask of that kind, or leave the node to the CPU provider.",
)
WEIGHT_NOT_CONSTANT = Reason(
    "weight-not-constant",
    "the weight is not constant",
    "Export the weight as an initializer that is not also an input of the graph.",
)
WEIGHT_IS_INPUT = Reason(
    "weight-is-input",
    "the weight {name!r} is also an input of the graph, which may change it between runs",
    "Remove the name from graph.input and keep the initializer, which IR version 4 and later allow.",
)
NO_CONSTANT_OPERAND = Reason(
    "no-constant-operand",
    "neither operand is constant",
    "Export one operand as an initializer.",
)
INTEGERS_ONLY = Reason(
    "integers-only",
    "integers of the type {type} are not supported, only int64 and int32, both operands alike",
    "Convert the model so that ids, positions and masks are int64 or int32.",
)
ALL_CONSTANT = Reason(
    "all-constant",
    "both operands are constant",
    "Fold constants before you save the model: ONNX Runtime writes such a model to optimized_model_filepath.",
)
PARAMETER_NOT_CONSTANT = Reason(
    "parameter-not-constant",
    "input {name} is not constant",
    "Export this input as an initializer that is not also an input of the graph, or fold constants before you save the model.",
)
LENGTHS_NOT_INT32 = Reason(
    "lengths-not-int32",
    "sequence_lens is not int32",
    "Export sequence_lens as int32, as ONNX requires.",
)
PARAMETER_IS_NAN = Reason(
    "parameter-is-nan",
    "input {name} is NaN",
    "Correct this input of the model: it is not a number.",
)
WEIGHT_EMPTY = Reason(
    "weight-empty",
    "the weight is empty",
    "Remove the layer from the model: its weight has no elements.",
)
MISMATCHED = Reason(
    "mismatched",
    "{what} does not fit {other}",
    "Check the model with onnx.checker.check_model(model, full_check=True).",
)
OUT_OF_RANGE = Reason(
    "out-of-range",
    "{what} is {value}: {low} to {high} is supported",
    "Leave the node to the CPU provider, or export the model with a value in this range.",
)
UNSUPPORTED_ATTRIBUTE = Reason(
    "unsupported-attribute",
    "{name}={value} is not supported",
    "Export the model with another value of this attribute if it allows that.",
)
UNSUPPORTED_AXES = Reason(
    "unsupported-axes",
    "axes other than {supported} are not supported",
    "Transpose the tensor before and after the node, or leave the node to the CPU provider.",
)
AXES_UNKNOWN = Reason(
    "axes-unknown",
    "which dimensions are 1 is not known",
    "Give the axes of the node, or export the model with fixed shapes.",
)
SIZE_UNKNOWN = Reason(
    "size-unknown",
    "the size of {what} is not known before a run",
    "Export the model with this size fixed, or run onnx.shape_inference.infer_shapes over it.",
)
NO_AXES = Reason(
    "no-axes",
    "there are no axes",
    "Remove the node from the model: it changes nothing.",
)
PADS_COVER_WINDOW = Reason(
    "pads-cover-window",
    "pads as wide as the window are not supported",
    "Export the pool with smaller pads: windows that see only padding have no result.",
)
STRIDE_BEYOND_WINDOW = Reason(
    "stride-beyond-window",
    "auto_pad SAME with a stride beyond the window is not supported",
    "Export the node with explicit pads: ONNX and ONNX Runtime differ in where such windows begin.",
)
SAME_WITH_DILATION = Reason(
    "same-with-dilation",
    "auto_pad SAME with dilations is not supported",
    "Export the node with explicit pads: ONNX Runtime does not pad dilated windows as ONNX defines it.",
)
PADS_WITH_AUTO_PAD = Reason(
    "pads-with-auto-pad",
    "the node has both auto_pad and pads",
    "Remove one of the two attributes: ONNX does not allow both.",
)
GEMM_BETA = Reason(
    "gemm-beta",
    "input C is not constant and beta is {beta}, not 1",
    "Export C as an initializer, or multiply it by beta in a node of its own.",
)
ACTIVATION_DEFAULT = Reason(
    "activation-default",
    "activation {name} without its numbers is not supported",
    "Give activation_alpha and activation_beta: ONNX and ONNX Runtime differ in the defaults of this activation.",
)
EXPONENT = Reason(
    "exponent",
    "exponents other than {supported} are not supported",
    "Leave the node to the CPU provider, or write the power as products.",
)
TOO_MANY_NUMBERS = Reason(
    "too-many-numbers",
    "integers are computed only in lists of known length, at most {most}, as shapes are",
    "Leave the node to the CPU provider.",
)
DEPENDS_ON_DATA = Reason(
    "depends-on-data",
    "the number depends on the values of a tensor, not on shapes",
    "Leave the node to the CPU provider, or export the model so that shapes follow from shapes.",
)
ALIGN_CORNERS_SCALE = Reason(
    "align-corners-scale",
    "align_corners with a scale that is not whole is not supported",
    "Export the node with sizes instead of scales: ONNX and ONNX Runtime differ in the positions for such scales.",
)

REASONS = tuple(row for row in list(globals().values()) if isinstance(row, Reason))
"""All rows, in their order."""
ADVICE = {row.code: row.advice for row in REASONS}
"""Advice for the user, by the code of the reason."""
