// Cuts crops of persons out of BGR frames on the GPU, bit for bit as cv2.warpAffine of OpenCV 4
// does it with INTER_LINEAR and a zero border on uint8 pictures of three channels.
//
// OpenCV 4 walks the picture in fixed point: positions in 1/1024 px (AB_BITS), rounded to 1/32 px
// (INTER_BITS), bilinear weights in 1/32768 (INTER_REMAP_COEF_BITS). The weights of 1/32 px steps
// are exact in that unit, so one integer sum per channel is the whole interpolation.
//
// Compiled at run time by NVRTC, and by the host compiler in the tests, which define the few
// CUDA names that are used here. No header is included on purpose.

#define POSITION_SCALE 1024.0   // AB_BITS = 10
#define ROUND_DELTA 16          // half a subpixel step: 1024 / 32 / 2
#define SUBPIXEL_SHIFT 5        // from 1/1024 px to 1/32 px
#define SUBPIXEL_STEPS 32       // INTER_BITS = 5
#define WEIGHT_SHIFT 10         // (32 * 32) weights of 1/32 px each way

// One picture: rows of interleaved BGR bytes, `row_bytes` apart.
struct Frame {
    const unsigned char* pixels;
    long long row_bytes;
    int width;
    int height;
};

// One crop: the affine from crop pixels to picture pixels, and the index of the picture that it is
// cut from, below zero for a black crop.
struct Crop {
    double to_frame[6];
    int frame;
    int unused;
};

// cvRound on x86: to nearest even; what does not fit (NaN included) becomes the smallest integer.
__device__ int rounded(double value)
{
    if (!(value >= -2147483648.5 && value < 2147483647.5)) {
        return -2147483647 - 1;
    }
    return __double2int_rn(value);
}

__device__ int wrapping_sum(int a, int b)
{
    return (int)((unsigned)a + (unsigned)b);
}

// Position of column x, row y on one axis of the picture, in 1/32 px. Products and sums are kept
// apart (no fused multiply-add), as in OpenCV's baseline build.
__device__ int position(const double* axis, int x, int y)
{
    int along_x = rounded(__dmul_rn(__dmul_rn(axis[0], (double)x), POSITION_SCALE));
    double start = __dadd_rn(__dmul_rn(axis[1], (double)y), axis[2]);
    int along_y = wrapping_sum(rounded(__dmul_rn(start, POSITION_SCALE)), ROUND_DELTA);
    return wrapping_sum(along_y, along_x) >> SUBPIXEL_SHIFT;
}

// Whole pixels are stored as 16-bit integers in OpenCV's maps.
__device__ int saturated_pixel(int subpixel_position)
{
    int pixel = subpixel_position >> SUBPIXEL_SHIFT;
    return pixel < -32768 ? -32768 : pixel > 32767 ? 32767 : pixel;
}

// Grey levels of one picture element, zero outside of the picture.
__device__ void add_weighted(const Frame& frame, int x, int y, int weight, int* sums)
{
    if (x < 0 || y < 0 || x >= frame.width || y >= frame.height) {
        return;
    }
    const unsigned char* pixel = frame.pixels + y * frame.row_bytes + 3LL * x;
    sums[0] += weight * pixel[0];
    sums[1] += weight * pixel[1];
    sums[2] += weight * pixel[2];
}

// out: (crops, height, width, 3). One thread a pixel; blockIdx.z is the crop.
extern "C" __global__ void crop_bgr(
    const Frame* frames, const Crop* crops, unsigned char* out, int width, int height)
{
    int x = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    int y = (int)(blockIdx.y * blockDim.y + threadIdx.y);
    if (x >= width || y >= height) {
        return;
    }
    unsigned char* pixel = out + (((long long)blockIdx.z * height + y) * width + x) * 3;
    const Crop& crop = crops[blockIdx.z];
    if (crop.frame < 0) {
        pixel[0] = pixel[1] = pixel[2] = 0;
        return;
    }
    const Frame& frame = frames[crop.frame];
    int at_x = position(crop.to_frame, x, y);
    int at_y = position(crop.to_frame + 3, x, y);
    int left = saturated_pixel(at_x), top = saturated_pixel(at_y);
    int right_part = at_x & (SUBPIXEL_STEPS - 1), low_part = at_y & (SUBPIXEL_STEPS - 1);
    int left_part = SUBPIXEL_STEPS - right_part, high_part = SUBPIXEL_STEPS - low_part;
    int half = 1 << (WEIGHT_SHIFT - 1);
    int sums[3] = {half, half, half};
    add_weighted(frame, left, top, left_part * high_part, sums);
    add_weighted(frame, left + 1, top, right_part * high_part, sums);
    add_weighted(frame, left, top + 1, left_part * low_part, sums);
    add_weighted(frame, left + 1, top + 1, right_part * low_part, sums);
    pixel[0] = (unsigned char)(sums[0] >> WEIGHT_SHIFT);
    pixel[1] = (unsigned char)(sums[1] >> WEIGHT_SHIFT);
    pixel[2] = (unsigned char)(sums[2] >> WEIGHT_SHIFT);
}
