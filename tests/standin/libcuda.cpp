// A stand-in for libcuda.so.1 on the CPU, for the few driver functions that this project calls.
//
// Device memory is host memory. Streams are lazy: what is enqueued runs only when the host waits
// for it (or for something that waits for it), so that a missing dependency shows as a wrong
// result. The crop kernel is the real one, compiled by the host compiler. Compiled with the tests'
// cuda_shim.h; see build.py beside this file.
#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include CUDA_SHIM
#include CROP_SOURCE

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101,
       ILLEGAL_ADDRESS = 700, CAPTURE_UNSUPPORTED = 900, NOT_FOUND = 500, INVALID_CONTEXT = 201 };

using Work = std::function<int()>;

struct Stream {
    std::vector<Work> queue;
    size_t done = 0;
    bool capturing = false;
    std::vector<Work> captured;
};

struct Event {
    Stream* stream = nullptr;
    size_t position = 0;
};

struct Graph {
    std::vector<Work> work;
};

int gpus() { const char* n = getenv("STANDIN_GPUS"); return n ? atoi(n) : 1; }
int64_t memory_limit() {
    const char* mib = getenv("STANDIN_MIB");
    return (mib ? atoll(mib) : 8192) << 20;
}

std::map<uint64_t, size_t> allocations;  // device memory
std::map<uint64_t, size_t> host_allocations;
int64_t used = 0;
Stream* legacy() { static Stream stream; return &stream; }
Stream* of(void* handle) { return (uintptr_t)handle <= 2 ? legacy() : (Stream*)handle; }
thread_local std::vector<void*> contexts;
int sticky = SUCCESS;
std::atomic<int> captures{0};
std::map<int, int> retained;  // primary contexts
int resets = 0;

int run_until(Stream* stream, size_t position)
{
    while (stream->done < position && stream->done < stream->queue.size()) {
        Work work = stream->queue[stream->done++];
        int status = work();
        if (status != SUCCESS) sticky = status;
        if (sticky != SUCCESS) return sticky;
    }
    return sticky;  // the queue is never shortened, so that the positions of events stay valid
}

int enqueue(void* handle, Work work)
{
    if (contexts.empty()) return INVALID_CONTEXT;
    Stream* stream = of(handle);
    (stream->capturing ? stream->captured : stream->queue).push_back(std::move(work));
    return sticky;
}

bool inside(uint64_t address, size_t size)
{
    auto next = allocations.upper_bound(address);
    if (next == allocations.begin()) return false;
    --next;
    return address + size <= next->first + next->second;
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return gpus() > 0 ? SUCCESS : NO_DEVICE; }
int cuDriverGetVersion(int* version)
{
    const char* wanted = getenv("STANDIN_CUDA");
    *version = wanted ? atoi(wanted) : 13000;
    return SUCCESS;
}
int cuDeviceGetCount(int* count) { *count = gpus(); return SUCCESS; }
int cuDeviceGet(int* device, int index)
{
    *device = index;
    return index < gpus() ? SUCCESS : INVALID_DEVICE;
}
int cuDeviceGetName(char* name, int length, int)
{
    const char* wanted = getenv("STANDIN_NAME");
    strncpy(name, wanted ? wanted : "NVIDIA Stand-In 9000", (size_t)length);
    return SUCCESS;
}
int cuDeviceGetAttribute(int* value, int attribute, int)
{
    const char* capability = getenv("STANDIN_SM");
    int sm = capability ? atoi(capability) : 90;
    *value = attribute == 75 ? sm / 10 : attribute == 76 ? sm % 10 : 0;
    return SUCCESS;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = (size_t)memory_limit(); return SUCCESS; }
int cuGetErrorName(int status, const char** name)
{
    *name = status == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE"
          : status == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
    return SUCCESS;
}
// NVRTC asks for it and calls what it gets.
int cuGetExportTable(const void** table, const void*) { *table = nullptr; return NOT_FOUND; }
int cuGetErrorString(int, const char** text) { *text = "stand-in"; return SUCCESS; }

int cuDevicePrimaryCtxRetain(void** context, int device)
{
    ++retained[device];
    *context = (void*)(uintptr_t)(0x1000 + device);
    return SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int device)
{
    if (--retained[device] == 0) ++resets;
    return SUCCESS;
}
int cuCtxPushCurrent_v2(void* context) { contexts.push_back(context); return SUCCESS; }
int cuCtxPopCurrent_v2(void** context)
{
    if (contexts.empty()) return INVALID_CONTEXT;
    if (context) *context = contexts.back();
    contexts.pop_back();
    return SUCCESS;
}

int cuMemAlloc_v2(uint64_t* address, size_t size)
{
    if (contexts.empty()) return INVALID_CONTEXT;
    if (size == 0) return INVALID_VALUE;
    if (used + (int64_t)size > memory_limit()) return OUT_OF_MEMORY;
    void* memory = aligned_alloc(256, (size + 255) / 256 * 256);
    memset(memory, 0xA5, size);
    used += (int64_t)size;
    *address = (uint64_t)memory;
    allocations[*address] = size;
    return SUCCESS;
}
int cuMemFree_v2(uint64_t address)
{
    auto found = allocations.find(address);
    if (found == allocations.end()) return INVALID_VALUE;
    used -= (int64_t)found->second;
    allocations.erase(found);
    free((void*)address);
    return SUCCESS;
}
int cuMemAllocHost_v2(void** memory, size_t size)
{
    *memory = aligned_alloc(256, (size + 255) / 256 * 256);
    memset(*memory, 0x5A, size);
    host_allocations[(uint64_t)*memory] = size;
    return SUCCESS;
}
int cuMemFreeHost(void* memory)
{
    if (!host_allocations.erase((uint64_t)memory)) return INVALID_VALUE;
    free(memory);
    return SUCCESS;
}
int cuMemGetInfo_v2(size_t* free_bytes, size_t* total)
{
    *total = (size_t)memory_limit();
    *free_bytes = *total - (size_t)used;
    return SUCCESS;
}
int cuMemcpyHtoDAsync_v2(uint64_t target, const void* source, size_t size, void* stream)
{
    if (!inside(target, size)) return INVALID_VALUE;
    return enqueue(stream, [=] { memcpy((void*)target, source, size); return SUCCESS; });
}
int cuMemcpyDtoHAsync_v2(void* target, uint64_t source, size_t size, void* stream)
{
    if (!inside(source, size)) return INVALID_VALUE;
    return enqueue(stream, [=] { memcpy(target, (void*)source, size); return SUCCESS; });
}
int cuMemcpyDtoDAsync_v2(uint64_t target, uint64_t source, size_t size, void* stream)
{
    if (!inside(target, size)) return INVALID_VALUE;
    return enqueue(stream, [=] { memcpy((void*)target, (void*)source, size); return SUCCESS; });
}

int cuStreamCreate(void** stream, unsigned) { *stream = new Stream; return SUCCESS; }
int cuStreamDestroy_v2(void* stream)
{
    delete (Stream*)stream;
    return SUCCESS;
}
int cuStreamSynchronize(void* stream) { return run_until(of(stream), of(stream)->queue.size()); }
int cuEventCreate(void** event, unsigned) { *event = new Event; return SUCCESS; }
int cuEventDestroy_v2(void* event) { delete (Event*)event; return SUCCESS; }
int cuEventRecord(void* event, void* stream)
{
    *(Event*)event = {of(stream), of(stream)->queue.size()};
    return SUCCESS;
}
int cuStreamWaitEvent(void* stream, void* event, unsigned)
{
    Event moment = *(Event*)event;  // what was recorded by now, as in CUDA
    return enqueue(stream, [=] {
        return moment.stream ? run_until(moment.stream, moment.position) : (int)SUCCESS;
    });
}
int cuEventSynchronize(void* event)
{
    Event moment = *(Event*)event;
    return moment.stream ? run_until(moment.stream, moment.position) : (int)SUCCESS;
}
int cuLaunchHostFunc(void* stream, void (*function)(void*), void* data)
{
    return enqueue(stream, [=] { function(data); return SUCCESS; });
}

int cuStreamBeginCapture_v2(void* stream, int)
{
    if (of(stream)->capturing) return INVALID_VALUE;
    of(stream)->capturing = true;
    captures++;
    of(stream)->captured.clear();
    return SUCCESS;
}
int cuStreamEndCapture(void* stream, void** graph)
{
    if (!of(stream)->capturing) return INVALID_VALUE;
    of(stream)->capturing = false;
    captures--;
    *graph = new Graph{of(stream)->captured};
    return SUCCESS;
}
int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long)
{
    *executable = new Graph(*(Graph*)graph);
    return SUCCESS;
}
int cuGraphDestroy(void* graph) { delete (Graph*)graph; return SUCCESS; }
int cuGraphExecDestroy(void* graph) { delete (Graph*)graph; return SUCCESS; }
int cuGraphLaunch(void* graph, void* stream)
{
    std::vector<Work> work = ((Graph*)graph)->work;
    return enqueue(stream, [=] {
        for (const Work& step : work) {
            if (int status = step()) return status;
        }
        return (int)SUCCESS;
    });
}

int cuModuleLoadData(void** module, const void* image)
{
    if (memcmp(image, "\x7f" "ELF", 4) != 0) return INVALID_VALUE;
    *module = (void*)0x2000;
    return SUCCESS;
}
int cuModuleUnload(void*) { return SUCCESS; }
int cuModuleGetFunction(void** function, void*, const char* name)
{
    *function = (void*)0x3000;
    return strcmp(name, "crop_bgr") == 0 ? SUCCESS : NOT_FOUND;
}
int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned, void* stream, void** arguments, void**)
{
    if (function != (void*)0x3000 || !gx || !gy || !gz || gz > 65535) return INVALID_VALUE;
    auto frames = *(const Frame**)arguments[0];
    auto crops = *(const Crop**)arguments[1];
    auto out = *(unsigned char**)arguments[2];
    int width = *(int*)arguments[3], height = *(int*)arguments[4];
    if (!inside((uint64_t)out, (size_t)3 * width * height * gz)) return INVALID_VALUE;
    return enqueue(stream, [=] {
        for_each_thread({gx, gy, gz}, {bx, by, bz},
                        [=] { crop_bgr(frames, crops, out, width, height); });
        return SUCCESS;
    });
}

// For the tests: how much is allocated now, a failure to come, contexts that were reset.
int64_t standin_allocated() { return (int64_t)(allocations.size() + host_allocations.size()); }
// What waits for a whole GPU is refused while a stream is captured. It does not wait here, so that
// streams stay lazy.
int standin_whole_gpu() { return captures ? CAPTURE_UNSUPPORTED : SUCCESS; }
void standin_break() { sticky = ILLEGAL_ADDRESS; }
int standin_resets() { return resets; }

int cuGetProcAddress_v2(const char* symbol, void** function, int, uint64_t, int* result)
{
    static const char* const versions[] = {"_v2", "", "WithFlags"};
    *function = nullptr;
    for (const char* suffix : versions) {
        std::string name = std::string(symbol) + suffix;
        if (name == "cuGraphInstantiate") continue;
        if (void* found = dlsym(RTLD_DEFAULT, name.c_str())) { *function = found; break; }
        static void* self = dlopen(SELF_PATH, RTLD_NOW);
        if (void* found = self ? dlsym(self, name.c_str()) : nullptr) { *function = found; break; }
    }
    if (result) *result = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}
int cuGetProcAddress(const char* symbol, void** function, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(symbol, function, version, flags, nullptr);
}

}  // extern "C"
