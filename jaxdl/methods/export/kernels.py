"""The C of a generated runner: what stands before and behind a model's lines, and one function a kind of layer.

Only the functions that a model calls are written. Images are (H, W, C), weights of a convolution (kh, kw, C, N)
and of a linear layer (K, N), so the innermost loops run over neighbours in memory and compilers vectorise them
without permission to reorder sums. In int8 the weights are (N, kh, kw, C) and (N, K), for dot products of
integers; zeros fill the rows up to a multiple of `LANES`.
"""

LANES = 32

HEAD = """\
/* Written by jaxdl {version}: {title}.
 *
 *   cc -O3 -march=native -o model {file} -lm
 *   ./model digit.pgm
 *
 * C11 with gcc or clang, no other file, no allocation; {memory} bytes of working memory beside the weights.
 * As a library: compile with -DMODEL_NO_MAIN and call  void model(const uint8_t *image, float *logits)
 * with {height} x {width} x {channels} bytes (rows, columns, channels); it returns {count} logits.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the weights in this file are little-endian"
#endif

#define HEIGHT {height}
#define WIDTH {width}
#define CHANNELS {channels}
#define CLASSES {count}
#define LANES {lanes}
#ifndef MODEL_NO_MAIN
static const char *const NAMES[CLASSES] = {{{names}}};
#endif
"""

KERNELS = {
    "linear": """\
/* y (rows, n) = x (rows, k) w (k, n) + bias (n) */
static void linear(const float *x, int rows, int k, int n, const float *w, const float *bias, float *y)
{
    for (int row = 0; row < rows; row++, x += k, y += n) {
        memcpy(y, bias, n * sizeof(float));
        for (int i = 0; i < k; i++)
            for (int j = 0; j < n; j++)
                y[j] += x[i] * w[i * n + j];
    }
}
""",
    "matmul": """\
/* y (batch, m, n) = a (batch, m, k) b (batch, k, n) */
static void matmul(const float *a, const float *b, int batch, int m, int k, int n, float *y)
{
    for (; batch > 0; batch--, b += k * n)
        for (int row = 0; row < m; row++, a += k, y += n) {
            memset(y, 0, n * sizeof(float));
            for (int i = 0; i < k; i++)
                for (int j = 0; j < n; j++)
                    y[j] += a[i] * b[i * n + j];
        }
}
""",
    "softmax": """\
/* Over rows of n. */
static void softmax(const float *x, int rows, int n, float *y)
{
    for (; rows > 0; rows--, x += n, y += n) {
        float most = x[0], sum = 0;
        for (int j = 1; j < n; j++) most = x[j] > most ? x[j] : most;
        for (int j = 0; j < n; j++) sum += y[j] = expf(x[j] - most);
        for (int j = 0; j < n; j++) y[j] /= sum;
    }
}
""",
    "geometry": """\
/* Sizes of a layer over an image (height, width, channels) -> (rows, columns, n): the window, its steps, its start
   above and left of the image, and the distance of its places. */
typedef struct {
    int height, width, channels, rows, columns, n, kh, kw, step_y, step_x, top, left, far_y, far_x, groups;
} Geometry;
""",
    "conv": """\
/* Zeros around x; w (kh, kw, channels / groups, n). */
static void conv(const float *x, const Geometry *g, const float *w, const float *bias, float *y)
{
    int depth = g->channels / g->groups, each = g->n / g->groups;
    for (int row = 0; row < g->rows; row++)
        for (int column = 0; column < g->columns; column++, y += g->n) {
            memcpy(y, bias, g->n * sizeof(float));
            for (int i = 0; i < g->kh; i++) {
                int at_y = row * g->step_y - g->top + i * g->far_y;
                if (at_y < 0 || at_y >= g->height) continue;
                for (int j = 0; j < g->kw; j++) {
                    int at_x = column * g->step_x - g->left + j * g->far_x;
                    if (at_x < 0 || at_x >= g->width) continue;
                    const float *from = x + (at_y * g->width + at_x) * g->channels;
                    const float *weight = w + (i * g->kw + j) * depth * g->n;
                    for (int group = 0; group < g->groups; group++)
                        for (int c = 0; c < depth; c++) {
                            float value = from[group * depth + c];
                            const float *to = weight + c * g->n + group * each;
                            float *out = y + group * each;
                            for (int k = 0; k < each; k++) out[k] += value * to[k];
                        }
                }
            }
        }
}
""",
    "max_pool": """\
/* The largest of every window. */
static void max_pool(const float *x, const Geometry *g, float *y)
{
    for (int row = 0; row < g->rows; row++)
        for (int column = 0; column < g->columns; column++, y += g->n) {
            for (int c = 0; c < g->n; c++) y[c] = -INFINITY;
            for (int i = 0; i < g->kh; i++)
                for (int j = 0; j < g->kw; j++) {
                    int at_y = row * g->step_y - g->top + i, at_x = column * g->step_x - g->left + j;
                    if (at_y < 0 || at_y >= g->height || at_x < 0 || at_x >= g->width) continue;
                    const float *from = x + (at_y * g->width + at_x) * g->n;
                    for (int c = 0; c < g->n; c++) y[c] = from[c] > y[c] ? from[c] : y[c];
                }
        }
}
""",
    "quantize": """\
/* Codes of count numbers: q = round(x / scale) + zero, from -128 to 127. */
static void quantize(const float *x, int count, float scale, int zero, int8_t *q)
{
    float inverse = 1.0f / scale;
    for (int i = 0; i < count; i++) {
        float code = x[i] * inverse + (float)zero;
        code = code < -128.0f ? -128.0f : code > 127.0f ? 127.0f : code;
        q[i] = (int8_t)(code + (code < 0 ? -0.5f : 0.5f));
    }
}

static int32_t dot(const int8_t *a, const int8_t *b, int count)
{
    int32_t sum = 0;
    for (int i = 0; i < (count & -LANES); i++) sum += (int16_t)a[i] * (int16_t)b[i];
    return sum;
}
""",
    "linear_int8": """\
/* y (rows, n) = q (rows, k) w (n, k) * scale (n) + bias (n); products and sums are integers. The rows of w and
   patch are filled up to whole lanes. */
static void linear_int8(const int8_t *q, int rows, int k, int n, const int8_t *w, const float *scale,
                        const float *bias, int8_t *patch, float *y)
{
    int size = (k + LANES - 1) / LANES * LANES;
    memset(patch, 0, size);
    for (; rows > 0; rows--, q += k) {
        memcpy(patch, q, k);
        for (int j = 0; j < n; j++) *y++ = (float)dot(patch, w + j * size, size) * scale[j] + bias[j];
    }
}
""",
    "conv_int8": """\
/* The code zero around q; w (n, kh, kw, channels), its rows and patch filled up to whole lanes. */
static void conv_int8(const int8_t *q, const Geometry *g, int zero, const int8_t *w, const float *scale,
                      const float *bias, int8_t *patch, float *y)
{
    int size = (g->kh * g->kw * g->channels + LANES - 1) / LANES * LANES;
    memset(patch, 0, size);
    for (int row = 0; row < g->rows; row++)
        for (int column = 0; column < g->columns; column++) {
            int8_t *to = patch;
            for (int i = 0; i < g->kh; i++)
                for (int j = 0; j < g->kw; j++, to += g->channels) {
                    int at_y = row * g->step_y - g->top + i * g->far_y;
                    int at_x = column * g->step_x - g->left + j * g->far_x;
                    if (at_y < 0 || at_y >= g->height || at_x < 0 || at_x >= g->width)
                        memset(to, zero, g->channels);
                    else
                        memcpy(to, q + (at_y * g->width + at_x) * g->channels, g->channels);
                }
            for (int k = 0; k < g->n; k++) *y++ = (float)dot(patch, w + k * size, size) * scale[k] + bias[k];
        }
}
""",
}
NEEDS = {
    "conv": ("geometry",),
    "max_pool": ("geometry",),
    "linear_int8": ("quantize",),
    "conv_int8": ("geometry", "quantize"),
}

MAIN = """\
#ifndef MODEL_NO_MAIN
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint8_t image[HEIGHT * WIDTH * CHANNELS];

/* A number of a PGM's or PPM's head, past blanks and comments; -1 where there is none. */
static int number(FILE *file)
{
    int c = fgetc(file), value = 0;
    while (c == '#' || c == ' ' || c == '\\t' || c == '\\r' || c == '\\n') {
        if (c == '#') while (c != '\\n' && c != EOF) c = fgetc(file);
        else c = fgetc(file);
    }
    if (c < '0' || c > '9') return -1;
    for (; c >= '0' && c <= '9' && value < 100000; c = fgetc(file)) value = 10 * value + c - '0';
    return value;
}

/* Where the pixels begin: behind the head of a binary PGM or PPM, or at once. */
static const char *head(FILE *file)
{
    int first = fgetc(file), kind = fgetc(file), width, height;
    if (first != 'P' || kind != (CHANNELS == 1 ? '5' : '6')) {
        fseek(file, 0, SEEK_END);
        long size = ftell(file);
        rewind(file);
        int whole = size > 0 && size % (long)sizeof image == 0;
        return whole ? NULL : "neither %s nor raw images of %d x %d x %d bytes";
    }
    width = number(file);
    height = number(file);
    if (number(file) != 255) return "expected %s with 255 as its largest value";
    return width == WIDTH && height == HEIGHT ? NULL : "expected %s of %d x %d pixels";
}

static void show(const char *path, int place, const float *logits, int all)
{
    int best = 0;
    float sum = 0;
    for (int i = 1; i < CLASSES; i++) best = logits[i] > logits[best] ? i : best;
    for (int i = 0; i < CLASSES; i++) sum += expf(logits[i] - logits[best]);
    if (all)
        for (int i = 0; i < CLASSES; i++) printf("%.9g%c", logits[i], i + 1 < CLASSES ? ' ' : '\\n');
    else if (place)
        printf("%s, image %d: %s (%.1f%%)\\n", path, place + 1, NAMES[best], 100 / sum);
    else
        printf("%s: %s (%.1f%%)\\n", path, NAMES[best], 100 / sum);
}

static int classify(const char *path, int all, long repeat)
{
    float logits[CLASSES];
    FILE *file = fopen(path, "rb");
    const char *wrong = file ? head(file) : "no such file";
    if (wrong) {
        fprintf(stderr, "%s: ", path);
        fprintf(stderr, wrong, CHANNELS == 1 ? "a binary PGM (P5)" : "a binary PPM (P6)", HEIGHT, WIDTH, CHANNELS);
        fprintf(stderr, "\\n");
        if (file) fclose(file);
        return 2;
    }
    int place = 0;
    for (; fread(image, sizeof image, 1, file) == 1; place++) {
        struct timespec start, end;
        timespec_get(&start, TIME_UTC);
        for (long i = 0; i < repeat; i++) model(image, logits);
        timespec_get(&end, TIME_UTC);
        show(path, place, logits, all);
        double micro = (end.tv_sec - start.tv_sec) * 1e6 + (end.tv_nsec - start.tv_nsec) / 1e3;
        if (repeat > 1) printf("%.3f microseconds\\n", micro / repeat);
    }
    fclose(file);
    if (!place) fprintf(stderr, "%s: ends before its last pixel\\n", path);
    return place ? 0 : 2;
}

int main(int argc, char **argv)
{
    int all = 0, status = 0, at = 1;
    long repeat = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        if (!strcmp(argv[at], "--logits")) all = 1;
        else if (!strcmp(argv[at], "--repeat") && at + 1 < argc && (repeat = atol(argv[at + 1])) > 0) at++;
        else at = argc;
    }
    if (at >= argc) {
        fprintf(stderr, "usage: %s [--logits] [--repeat N] IMAGE...\\n"
                "IMAGE: a binary %s of %d x %d pixels, or raw bytes (rows, columns, channels) of any number\\n",
                argv[0], CHANNELS == 1 ? "PGM" : "PPM", HEIGHT, WIDTH);
        return 2;
    }
    for (; at < argc; at++) status |= classify(argv[at], all, repeat);
    return status;
}
#endif
"""
