"""The part of ONNX Runtime's C ABI that the provider uses, declared here because no package ships the headers.

A table of ONNX Runtime is a row of function pointers that only ever grows at its end, so a function is a slot number and a type. Every
object of ONNX Runtime is a plain `void*` here, named in the comments; C's `bool` is one byte. `tests/provider/test_abi.py` holds the
numbers against the installed runtime.
"""

from libc.stdint cimport int64_t, uint32_t


cdef enum:
    # The API version whose struct layouts are declared below, that of onnxruntime 1.25.
    API_VERSION = 25
    # The oldest version whose GetApi() is asked for a status that says the runtime is too old.
    API_VERSION_PLUGIN = 22

# OrtStatus*: NULL is success, anything else is owned by whoever receives it.
ctypedef void* Status
ctypedef unsigned char flag


cdef struct ApiBase:
    const Api* (*GetApi)(uint32_t version) noexcept nogil
    const char* (*GetVersionString)() noexcept nogil


# OrtApi or OrtEpApi.
cdef struct Api:
    void* slots[1]


# Slots of OrtApi.
cdef enum:
    CREATE_STATUS = 0
    GET_ERROR_CODE = 1
    GET_ERROR_MESSAGE = 2
    GET_TENSOR_MUTABLE_DATA = 51
    CAST_TYPE_INFO_TO_TENSOR_INFO = 55
    GET_TENSOR_ELEMENT_TYPE = 60
    GET_DIMENSIONS_COUNT = 61
    GET_DIMENSIONS = 62
    GET_SYMBOLIC_DIMENSIONS = 63
    KERNEL_CONTEXT_GET_INPUT = 90
    KERNEL_CONTEXT_GET_OUTPUT = 91
    RELEASE_STATUS = 93
    READ_OP_ATTR = 272
    KERNEL_CONTEXT_PARALLEL_FOR = 274
    GET_VALUE_INFO_NAME = 289
    GET_VALUE_INFO_TYPE_INFO = 290
    GET_KEY_VALUE_PAIRS = 298
    RELEASE_KEY_VALUE_PAIRS = 300
    HARDWARE_DEVICE_TYPE = 307
    GET_EP_API = 317
    VALUE_INFO_GET_INITIALIZER_VALUE = 326
    VALUE_INFO_IS_CONSTANT_INITIALIZER = 331
    GRAPH_GET_NAME = 333
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
    OP_ATTR_GET_TYPE = 363
    OP_ATTR_GET_NAME = 364
    NODE_GET_EP_NAME = 368
    GET_TENSOR_DATA = 378
    GET_SESSION_OPTIONS_CONFIG_ENTRIES = 379
    TENSOR_TYPE_AND_SHAPE_HAS_SHAPE = 390
    GET_TENSOR_ELEMENT_TYPE_AND_SHAPE_DATA_REFERENCE = 414


# Slots of OrtEpApi.
cdef enum:
    CREATE_EP_DEVICE = 0
    EP_GRAPH_SUPPORT_INFO_ADD_NODES_TO_FUSE = 2


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

# ONNXTensorElementDataType
cdef enum:
    ELEMENT_FLOAT = 1
    ELEMENT_INT32 = 6


# Functions that differ only in what they ask of which object share a type.
ctypedef Status (*create_status_t)(int code, const char* message) noexcept nogil
ctypedef int (*get_error_code_t)(const void* status) noexcept nogil
ctypedef const char* (*get_error_message_t)(const void* status) noexcept nogil
ctypedef void (*release_t)(void* object) noexcept nogil
ctypedef Status (*get_text_t)(const void* object, const char** out) noexcept nogil
ctypedef Status (*get_count_t)(const void* object, size_t* out) noexcept nogil
ctypedef Status (*get_number_t)(const void* object, int* out) noexcept nogil
ctypedef Status (*get_flag_t)(const void* object, flag* out) noexcept nogil
ctypedef Status (*get_object_t)(const void* object, const void** out) noexcept nogil
ctypedef Status (*get_objects_t)(const void* object, const void** out, size_t count) noexcept nogil
ctypedef flag (*has_t)(const void* object) noexcept nogil
ctypedef int (*device_type_t)(const void* device) noexcept nogil
ctypedef const Api* (*get_ep_api_t)() noexcept nogil
ctypedef Status (*get_dimensions_t)(const void* info, int64_t* out, size_t rank) noexcept nogil
ctypedef Status (*get_symbolic_dimensions_t)(const void* info, const char** out, size_t rank) noexcept nogil
ctypedef Status (*read_attribute_t)(const void* attribute, int type, void* data, size_t size, size_t* out) noexcept nogil
ctypedef void (*get_pairs_t)(const void* pairs, const char* const** keys, const char* const** values, size_t* count) noexcept nogil
ctypedef Status (*tensor_t)(const void* value, int* type, const int64_t** shape, size_t* rank) noexcept nogil
ctypedef Status (*kernel_input_t)(const void* context, size_t index, const void** value) noexcept nogil
ctypedef Status (*kernel_output_t)(void* context, size_t index, const int64_t* dims, size_t rank, void** value) noexcept nogil
ctypedef Status (*parallel_for_t)(const void* context, void (*body)(void*, size_t) noexcept nogil, size_t total, size_t batches,
                                  void* user) noexcept nogil
ctypedef Status (*create_ep_device_t)(void* factory, const void* device, const void* metadata, const void* options,
                                      void** ep_device) noexcept nogil
ctypedef Status (*add_nodes_to_fuse_t)(void* support, const void** nodes, size_t count, const OrtNodeFusionOptions* options) noexcept nogil


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
    void* ValidateCompiledModelCompatibilityInfo
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
    void* OnRunStart
    void* OnRunEnd
    void* CreateAllocator
    void* CreateSyncStreamForDevice
    void* GetCompiledModelCompatibilityInfo
    void* GetKernelRegistry
    void* IsConcurrentRunSupported
    void* Sync
    void* CreateProfiler


cdef struct OrtNodeComputeInfo:
    uint32_t ort_version_supported
    Status (*CreateState)(void* info, void* context, void** state) noexcept nogil
    Status (*Compute)(void* info, void* state, void* context) noexcept nogil
    void (*ReleaseState)(void* info, void* state) noexcept nogil
