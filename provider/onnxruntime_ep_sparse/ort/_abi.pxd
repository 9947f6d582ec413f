"""The part of ONNX Runtime's C ABI that the provider uses, declared here because no package ships the headers.

A table of ONNX Runtime is a row of function pointers that only ever grows at its end, so a function is a slot number and a type. Every
object of ONNX Runtime is a plain `void*` here, named in the comments; C's `bool` is one byte. `tests/provider/test_abi.py` holds the
numbers against the installed runtime.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef enum:
    # The API version whose struct layouts are declared below, that of onnxruntime 1.25.
    API_VERSION = 25
    # The oldest version whose GetApi() is asked for a status that says the runtime is too old.
    API_VERSION_PLUGIN = 22

# OrtStatus*: NULL is success; the receiver owns any other.
ctypedef void* Status
ctypedef unsigned char flag


cdef struct ApiBase:
    const Api* (*GetApi)(uint32_t version) noexcept nogil
    const char* (*GetVersionString)() noexcept nogil


# OrtApi, OrtEpApi or OrtModelEditorApi.
cdef struct Api:
    void* slots[1]


# Slots of OrtApi.
cdef enum:
    CREATE_STATUS = 0
    GET_ERROR_CODE = 1
    GET_ERROR_MESSAGE = 2
    CREATE_SESSION_OPTIONS = 10
    SET_INTRA_OP_NUM_THREADS = 24
    CREATE_CUSTOM_OP_DOMAIN = 26
    CUSTOM_OP_DOMAIN_ADD = 27
    ADD_CUSTOM_OP_DOMAIN = 28
    CREATE_RUN_OPTIONS = 39
    RUN_OPTIONS_SET_TERMINATE = 46
    GET_TENSOR_MUTABLE_DATA = 51
    CAST_TYPE_INFO_TO_TENSOR_INFO = 55
    CREATE_TENSOR_TYPE_AND_SHAPE_INFO = 57
    SET_TENSOR_ELEMENT_TYPE = 58
    SET_DIMENSIONS = 59
    GET_TENSOR_ELEMENT_TYPE = 60
    GET_DIMENSIONS_COUNT = 61
    GET_DIMENSIONS = 62
    GET_SYMBOLIC_DIMENSIONS = 63
    KERNEL_INFO_GET_ATTRIBUTE_FLOAT = 85
    KERNEL_INFO_GET_ATTRIBUTE_INT64 = 86
    KERNEL_INFO_GET_ATTRIBUTE_STRING = 87
    KERNEL_CONTEXT_GET_INPUT = 90
    KERNEL_CONTEXT_GET_OUTPUT = 91
    RELEASE_STATUS = 93
    RELEASE_VALUE = 96
    RELEASE_RUN_OPTIONS = 97
    RELEASE_TYPE_INFO = 98
    RELEASE_TENSOR_TYPE_AND_SHAPE_INFO = 99
    RELEASE_SESSION_OPTIONS = 100
    DISABLE_PER_SESSION_THREADS = 120
    KERNEL_INFO_GET_ATTRIBUTE_ARRAY_INT64 = 163
    CREATE_OP_ATTR = 211
    RELEASE_OP_ATTR = 212
    KERNEL_INFO_GET_INPUT_COUNT = 230
    KERNEL_INFO_GET_INPUT_NAME = 232
    KERNEL_INFO_GET_OUTPUT_NAME = 233
    KERNEL_INFO_GET_INPUT_TYPE_INFO = 234
    KERNEL_INFO_GET_NODE_NAME = 244
    LOGGER_LOG_MESSAGE = 247
    LOGGER_GET_SEVERITY_LEVEL = 248
    KERNEL_INFO_GET_CONSTANT_INPUT_TENSOR = 249
    SHAPE_INFER_CONTEXT_GET_INPUT_TYPE_SHAPE = 268
    SHAPE_INFER_CONTEXT_GET_ATTRIBUTE = 269
    SHAPE_INFER_CONTEXT_SET_OUTPUT_TYPE_SHAPE = 270
    SET_SYMBOLIC_DIMENSIONS = 271
    READ_OP_ATTR = 272
    KERNEL_CONTEXT_PARALLEL_FOR = 274
    RELEASE_NODE = 286
    GET_VALUE_INFO_NAME = 289
    GET_VALUE_INFO_TYPE_INFO = 290
    GET_MODEL_EDITOR_API = 291
    GET_KEY_VALUE_PAIRS = 298
    RELEASE_KEY_VALUE_PAIRS = 300
    HARDWARE_DEVICE_TYPE = 307
    GET_EP_API = 317
    VALUE_INFO_GET_INITIALIZER_VALUE = 326
    VALUE_INFO_IS_OPTIONAL_GRAPH_INPUT = 329
    VALUE_INFO_IS_CONSTANT_INITIALIZER = 331
    GRAPH_GET_NAME = 333
    GRAPH_GET_MODEL_PATH = 334
    GRAPH_GET_NUM_INPUTS = 338
    GRAPH_GET_INPUTS = 339
    GRAPH_GET_NUM_OUTPUTS = 340
    GRAPH_GET_OUTPUTS = 341
    GRAPH_GET_NUM_NODES = 344
    GRAPH_GET_NODES = 345
    GRAPH_GET_PARENT_NODE = 346
    NODE_GET_NAME = 349
    NODE_GET_OPERATOR_TYPE = 350
    NODE_GET_DOMAIN = 351
    NODE_GET_SINCE_VERSION = 352
    NODE_GET_NUM_INPUTS = 353
    NODE_GET_INPUTS = 354
    NODE_GET_NUM_OUTPUTS = 355
    NODE_GET_OUTPUTS = 356
    NODE_GET_NUM_IMPLICIT_INPUTS = 357
    NODE_GET_IMPLICIT_INPUTS = 358
    NODE_GET_NUM_ATTRIBUTES = 359
    NODE_GET_ATTRIBUTES = 360
    OP_ATTR_GET_TENSOR_ATTRIBUTE_AS_ORT_VALUE = 362
    OP_ATTR_GET_TYPE = 363
    OP_ATTR_GET_NAME = 364
    NODE_GET_EP_NAME = 368
    GET_TENSOR_DATA = 378
    GET_SESSION_OPTIONS_CONFIG_ENTRIES = 379
    TENSOR_TYPE_AND_SHAPE_HAS_SHAPE = 390
    KERNEL_INFO_GET_CONFIG_ENTRIES = 391
    GET_TENSOR_ELEMENT_TYPE_AND_SHAPE_DATA_REFERENCE = 414


# Slots of OrtEpApi.
cdef enum:
    CREATE_EP_DEVICE = 0
    EP_GRAPH_SUPPORT_INFO_ADD_NODES_TO_FUSE = 2
    CREATE_PROFILING_EVENT = 65
    RELEASE_PROFILING_EVENT = 66
    PROFILING_EVENT_GET_TIMESTAMP_US = 69
    PROFILING_EVENT_GET_DURATION_US = 70
    PROFILING_EVENTS_CONTAINER_ADD_EVENTS = 72


# Slots of OrtModelEditorApi.
cdef enum:
    CREATE_NODE = 6


# OrtErrorCode
cdef enum:
    FAIL = 1
    INVALID_ARGUMENT = 2
    NOT_IMPLEMENTED = 9

# OrtHardwareDeviceType
cdef enum:
    DEVICE_CPU = 0

# OrtOpAttrType
cdef enum:
    ATTRIBUTE_INT = 1
    ATTRIBUTE_INTS = 2
    ATTRIBUTE_FLOAT = 3
    ATTRIBUTE_FLOATS = 4
    ATTRIBUTE_STRING = 5
    ATTRIBUTE_STRINGS = 6
    ATTRIBUTE_TENSOR = 8

# OrtProfilingEventCategory
cdef enum:
    PROFILING_KERNEL = 2

# ONNXTensorElementDataType
cdef enum:
    ELEMENT_FLOAT = 1
    ELEMENT_UINT8 = 2

# OrtCustomOpInputOutputCharacteristic
cdef enum:
    INPUT_REQUIRED = 0
    INPUT_OPTIONAL = 1


# Functions that differ only in what they ask of which object share a type.
ctypedef Status (*create_status_t)(int code, const char* message) noexcept nogil
ctypedef int (*get_error_code_t)(const void* status) noexcept nogil
ctypedef const char* (*get_error_message_t)(const void* status) noexcept nogil
ctypedef void (*release_t)(void* object) noexcept nogil
ctypedef Status (*change_t)(void* object) noexcept nogil
ctypedef Status (*get_text_t)(const void* object, const char** out) noexcept nogil
ctypedef Status (*log_message_t)(const void* logger, int severity, const char* message, const char* file, int line,
                                 const char* function) noexcept nogil
ctypedef Status (*get_count_t)(const void* object, size_t* out) noexcept nogil
ctypedef Status (*get_number_t)(const void* object, int* out) noexcept nogil
ctypedef Status (*get_flag_t)(const void* object, flag* out) noexcept nogil
ctypedef Status (*get_object_t)(const void* object, const void** out) noexcept nogil
ctypedef Status (*get_objects_t)(const void* object, const void** out, size_t count) noexcept nogil
ctypedef flag (*has_t)(const void* object) noexcept nogil
ctypedef int (*device_type_t)(const void* device) noexcept nogil
ctypedef const Api* (*get_table_t)() noexcept nogil
ctypedef Status (*create_op_attr_t)(const char* name, const void* data, int size, int type, void** out) noexcept nogil
ctypedef Status (*create_node_t)(const char* op_type, const char* domain, const char* name, const char* const* inputs, size_t input_count,
                                 const char* const* outputs, size_t output_count, void** attributes, size_t attribute_count,
                                 void** out) noexcept nogil
ctypedef Status (*get_dimensions_t)(const void* info, int64_t* out, size_t rank) noexcept nogil
ctypedef Status (*get_symbolic_dimensions_t)(const void* info, const char** out, size_t rank) noexcept nogil
ctypedef Status (*read_attribute_t)(const void* attribute, int type, void* data, size_t size, size_t* out) noexcept nogil
ctypedef void (*get_pairs_t)(const void* pairs, const char* const** keys, const char* const** values, size_t* count) noexcept nogil
ctypedef Status (*tensor_t)(const void* value, int* type, const int64_t** shape, size_t* rank) noexcept nogil
ctypedef Status (*kernel_input_t)(const void* context, size_t index, const void** value) noexcept nogil
ctypedef Status (*kernel_output_t)(void* context, size_t index, const int64_t* dims, size_t rank, void** value) noexcept nogil
ctypedef Status (*parallel_for_t)(const void* context, void (*body)(void*, size_t) noexcept nogil, size_t total, size_t batches,
                                  void* user) noexcept nogil
ctypedef Status (*create_domain_t)(const char* name, void** out) noexcept nogil
ctypedef Status (*add_to_t)(void* object, const void* part) noexcept nogil
ctypedef Status (*create_object_t)(void** out) noexcept nogil
ctypedef Status (*set_number_t)(void* object, int number) noexcept nogil
ctypedef Status (*set_dimensions_t)(void* info, const int64_t* dims, size_t rank) noexcept nogil
ctypedef Status (*set_symbolic_dimensions_t)(void* info, const char** names, size_t rank) noexcept nogil
ctypedef Status (*get_part_t)(const void* object, size_t index, const void** out) noexcept nogil
ctypedef Status (*set_part_t)(void* object, size_t index, const void* part) noexcept nogil
ctypedef Status (*copy_text_t)(const void* object, char* out, size_t* size) noexcept nogil
ctypedef Status (*copy_indexed_text_t)(const void* object, size_t index, char* out, size_t* size) noexcept nogil
ctypedef Status (*constant_input_t)(const void* info, size_t index, int* is_constant, const void** value) noexcept nogil
ctypedef Status (*named_attribute_t)(const void* object, const char* name, const void** attribute) noexcept nogil
ctypedef Status (*float_attribute_t)(const void* info, const char* name, float* out) noexcept nogil
ctypedef Status (*int_attribute_t)(const void* info, const char* name, int64_t* out) noexcept nogil
ctypedef Status (*ints_attribute_t)(const void* info, const char* name, int64_t* out, size_t* count) noexcept nogil
ctypedef Status (*text_attribute_t)(const void* info, const char* name, char* out, size_t* size) noexcept nogil
ctypedef Status (*create_ep_device_t)(void* factory, const void* device, const void* metadata, const void* options,
                                      void** ep_device) noexcept nogil
ctypedef Status (*create_profiling_event_t)(int category, int32_t process, int32_t thread, const char* name, int64_t begin_us,
                                            int64_t duration_us, const char* const* keys, const char* const* values, size_t count,
                                            void** out) noexcept nogil
ctypedef Status (*get_int64_t)(const void* object, int64_t* out) noexcept nogil
ctypedef Status (*add_events_t)(void* container, void* const* events, size_t count) noexcept nogil
ctypedef Status (*add_nodes_to_fuse_t)(void* support, const void** nodes, size_t count, const OrtNodeFusionOptions* options) noexcept nogil


cdef inline Status failed(const Api* api, int code, const char* message) noexcept nogil:
    """Return a status that says what went wrong."""
    return (<create_status_t>api.slots[CREATE_STATUS])(code, message)


cdef struct OrtNodeFusionOptions:
    uint32_t ort_version_supported
    flag drop_constant_initializers


# The structs a provider fills. A `void*` member is optional and left NULL.
cdef struct OrtEpFactory:
    uint32_t ort_version_supported
    const char* (*GetName)(const void* factory) noexcept nogil
    const char* (*GetVendor)(const void* factory) noexcept nogil
    Status (*GetSupportedDevices)(void* factory, const void** devices, size_t device_count, void** ep_devices, size_t max_ep_devices,
                                  size_t* ep_device_count) noexcept nogil
    Status (*CreateEp)(void* factory, const void** devices, const void** metadata, size_t device_count, const void* session_options,
                       const void* logger, void** ep) noexcept nogil
    void (*ReleaseEp)(void* factory, void* ep) noexcept nogil
    uint32_t (*GetVendorId)(const void* factory) noexcept nogil
    const char* (*GetVersion)(const void* factory) noexcept nogil
    Status (*ValidateCompiledModelCompatibilityInfo)(void* factory, const void** devices, size_t device_count, const char* info,
                                                     int* compatibility) noexcept nogil
    void* CreateAllocator
    void* ReleaseAllocator
    Status (*CreateDataTransfer)(void* factory, void** transfer) noexcept nogil
    void* IsStreamAware
    void* CreateSyncStreamForDevice
    void* GetHardwareDeviceIncompatibilityDetails
    void* CreateExternalResourceImporterForDevice
    void* GetNumCustomOpDomains
    void* GetCustomOpDomains
    void* InitGraphicsInterop
    void* DeinitGraphicsInterop


cdef struct OrtEp:
    uint32_t ort_version_supported
    const char* (*GetName)(const void* ep) noexcept nogil
    Status (*GetCapability)(void* ep, const void* graph, void* support) noexcept nogil
    Status (*Compile)(void* ep, const void** graphs, const void** fused_nodes, size_t count, void** infos, void** contexts) noexcept nogil
    void (*ReleaseNodeComputeInfos)(void* ep, void** infos, size_t count) noexcept nogil
    void* GetPreferredDataLayout
    void* ShouldConvertDataLayoutForOp
    Status (*SetDynamicOptions)(void* ep, const char* const* keys, const char* const* values, size_t count) noexcept nogil
    Status (*OnRunStart)(void* ep, const void* run_options) noexcept nogil
    Status (*OnRunEnd)(void* ep, const void* run_options, flag sync_stream) noexcept nogil
    void* CreateAllocator
    void* CreateSyncStreamForDevice
    const char* (*GetCompiledModelCompatibilityInfo)(void* ep, const void* graph) noexcept nogil
    void* GetKernelRegistry
    void* IsConcurrentRunSupported
    void* Sync
    Status (*CreateProfiler)(void* ep, void** profiler) noexcept nogil


cdef struct OrtEpProfilerImpl:
    uint32_t ort_version_supported
    void (*Release)(void* profiler) noexcept nogil
    Status (*StartProfiling)(void* profiler, int64_t offset_ns) noexcept nogil
    Status (*StartEvent)(void* profiler, uint64_t correlation) noexcept nogil
    Status (*StopEvent)(void* profiler, uint64_t correlation, const void* event) noexcept nogil
    Status (*EndProfiling)(void* profiler, void* container) noexcept nogil


cdef struct OrtNodeComputeInfo:
    uint32_t ort_version_supported
    Status (*CreateState)(void* info, void* context, void** state) noexcept nogil
    Status (*Compute)(void* info, void* state, void* context) noexcept nogil
    void (*ReleaseState)(void* info, void* state) noexcept nogil


# An operator of a custom domain. `op` is the struct itself, `info` and `context` are ONNX Runtime's OrtKernelInfo and OrtShapeInferContext.
cdef struct OrtCustomOp:
    uint32_t version
    void* CreateKernel
    const char* (*GetName)(const void* op) noexcept nogil
    const char* (*GetExecutionProviderType)(const void* op) noexcept nogil
    int (*GetInputType)(const void* op, size_t index) noexcept nogil
    size_t (*GetInputTypeCount)(const void* op) noexcept nogil
    int (*GetOutputType)(const void* op, size_t index) noexcept nogil
    size_t (*GetOutputTypeCount)(const void* op) noexcept nogil
    void* KernelCompute
    void (*KernelDestroy)(void* kernel) noexcept nogil
    int (*GetInputCharacteristic)(const void* op, size_t index) noexcept nogil
    int (*GetOutputCharacteristic)(const void* op, size_t index) noexcept nogil
    int (*GetInputMemoryType)(const void* op, size_t index) noexcept nogil
    void* GetVariadicInputMinArity
    void* GetVariadicInputHomogeneity
    void* GetVariadicOutputMinArity
    void* GetVariadicOutputHomogeneity
    Status (*CreateKernelV2)(const void* op, const Api* api, const void* info, void** kernel) noexcept nogil
    Status (*KernelComputeV2)(void* kernel, void* context) noexcept nogil
    Status (*InferOutputShapeFn)(const void* op, void* context) noexcept nogil
    void* GetStartVersion
    void* GetEndVersion
    void* GetMayInplace
    void* ReleaseMayInplace
    void* GetAliasMap
    void* ReleaseAliasMap
