// The few names of CUDA that crop.cu uses, for a host compiler: one thread after the other.
// Include this, then crop.cu; compile with -ffp-contract=off.
#include <math.h>

#define __global__
#define __device__ static inline

struct Index3 {
    unsigned x, y, z;
};
static thread_local Index3 threadIdx, blockIdx, blockDim;

static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline int __double2int_rn(double value) { return (int)nearbyint(value); }

// Calls `kernel` once for every thread of the grid.
template <typename Kernel>
static void for_each_thread(Index3 grid, Index3 block, Kernel kernel)
{
    blockDim = block;
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
                for (threadIdx.y = 0; threadIdx.y < block.y; ++threadIdx.y)
                    for (threadIdx.x = 0; threadIdx.x < block.x; ++threadIdx.x)
                        kernel();
}
