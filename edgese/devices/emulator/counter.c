/* Counts the A64 instructions that a program executes between two marks; a plugin for QEMU.
 *
 * The program marks with a system call that Linux does not have and therefore refuses:
 *     syscall(0x5E5E, 1)       from here
 *     syscall(0x5E5E, 2)       to here: one line is written
 *     syscall(0x5E5E, 3)       to here: the line also has every block of code that was executed
 *
 * Arguments, as in -plugin counter.so,out=FILE,atomic=on:
 *     out      the file that the lines go to, one JSON object each
 *     atomic   counts with atomic additions, for programs with several threads
 *
 * Debian ships the plugins' loader, but not qemu-plugin.h, so the few prototypes stand here. They are
 * those of version 1 of the interface: https://www.qemu.org/docs/master/devel/tcg-plugins.html
 * Encodings: Arm Architecture Reference Manual for A-profile (DDI 0487), C4.1.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 0x5E5E

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { QEMU_PLUGIN_INLINE_ADD_U64 };
enum { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t,
                                           void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int,
                                          void *);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t,
                                          void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t,
                                                   uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                                   uint64_t, uint64_t));

EXPORT int qemu_plugin_version = 1;

/* The first seven share out all instructions; those after them are counted once more. */
enum {
    LOADS,
    STORES,
    BRANCHES,
    INTEGER,
    VECTOR,
    SVE,
    OTHER,
    F32_MULTIPLY_ADD,
    F16_MULTIPLY_ADD,
    INTEGER_MULTIPLY_ADD,
    INT8_DOT,
    INT8_MATRIX,
    CLASSES
};
static const char *const NAMES[CLASSES] = {
    "loads",  "stores",           "branches",         "integer",           "vector",   "sve",
    "other",  "f32_multiply_add", "f16_multiply_add", "integer_multiply_add", "int8_dot", "int8_matrix",
};

struct block {
    uint64_t executions, before, address;
    uint32_t instructions, counts[CLASSES];
    struct block *next;
};

static struct block *blocks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *out;
static bool atomic;

static bool fits(uint32_t word, uint32_t mask, uint32_t value) { return (word & mask) == value; }

static bool is_load(uint32_t word) {
    unsigned kind = (word >> 28) & 3, opc = (word >> 22) & 3;
    if (kind == 1) return !fits(word, 0x3F200000, 0x19000000) || opc;      /* literals; LDAPUR, STLUR */
    if (kind != 3) return opc & 1;                                        /* pairs, structures, exclusive */
    if (fits(word, 0x3B200C00, 0x38200000)) return true;                  /* LSE atomics read */
    return (word >> 26) & 1 ? opc & 1 : opc != 0;
}

static int share(uint32_t word) {
    unsigned group = (word >> 25) & 15;
    if ((group & 5) == 4) return is_load(word) ? LOADS : STORES;
    if ((group & 14) == 10) return BRANCHES;
    if ((group & 7) == 7) return VECTOR;
    if ((group & 14) == 8 || (group & 7) == 5) return INTEGER;
    return group == 2 ? SVE : OTHER;
}

/* "by element" forms stand second; FMLS, SMLSL and the like count as what they subtract from. */
static bool is_f32(uint32_t word) {
    return fits(word, 0xBF20FC00, 0x0E20CC00) || fits(word, 0xBF80B400, 0x0F801000) ||
           (fits(word, 0xFF000000, 0x1F000000) && !fits(word, 0xFFC00000, 0x1FC00000));
}
static bool is_f16(uint32_t word) {
    return fits(word, 0xBF60FC00, 0x0E400C00) || fits(word, 0xBFC0B400, 0x0F001000) ||
           fits(word, 0xFFC00000, 0x1FC00000);
}
/* SMLAL, UMLAL, SMULL, UMULL; MLA. */
static bool is_integer(uint32_t word) {
    return fits(word, 0x9F20DC00, 0x0E208000) || fits(word, 0x9F00B400, 0x0F002000) ||
           fits(word, 0x9F20FC00, 0x0E20C000) || fits(word, 0x9F00F400, 0x0F00A000) ||
           fits(word, 0x9F20FC00, 0x0E209400) || fits(word, 0xBF00B400, 0x2F000000);
}
/* SDOT, UDOT; USDOT; SUDOT. */
static bool is_dot(uint32_t word) {
    return fits(word, 0x9FE0FC00, 0x0E809400) || fits(word, 0x9FC0F400, 0x0F80E000) ||
           fits(word, 0xBFE0FC00, 0x0E809C00) || fits(word, 0xBF40F400, 0x0F00F000);
}
/* SMMLA, UMMLA; USMMLA. */
static bool is_matrix(uint32_t word) {
    return fits(word, 0xDFE0FC00, 0x4E80A400) || fits(word, 0xFFE0FC00, 0x4E80AC00);
}

static void executed(unsigned cpu, void *block) {
    (void)cpu;
    __atomic_fetch_add(&((struct block *)block)->executions, 1, __ATOMIC_RELAXED);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *code) {
    struct block *block = calloc(1, sizeof *block);
    (void)id;
    if (!block) abort();
    block->address = qemu_plugin_tb_vaddr(code);
    block->instructions = qemu_plugin_tb_n_insns(code);
    for (size_t i = 0; i < block->instructions; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(code, i)), sizeof word);
        block->counts[share(word)]++;
        block->counts[F32_MULTIPLY_ADD] += is_f32(word);
        block->counts[F16_MULTIPLY_ADD] += is_f16(word);
        block->counts[INTEGER_MULTIPLY_ADD] += is_integer(word);
        block->counts[INT8_DOT] += is_dot(word);
        block->counts[INT8_MATRIX] += is_matrix(word);
    }
    pthread_mutex_lock(&lock);
    block->next = blocks;
    blocks = block;
    pthread_mutex_unlock(&lock);
    if (atomic)
        qemu_plugin_register_vcpu_tb_exec_cb(code, executed, QEMU_PLUGIN_CB_NO_REGS, block);
    else
        qemu_plugin_register_vcpu_tb_exec_inline(code, QEMU_PLUGIN_INLINE_ADD_U64, &block->executions,
                                                 1);
}

static void tell(bool with_blocks) {
    uint64_t total = 0, counts[CLASSES] = {0};
    for (struct block *block = blocks; block; block = block->next) {
        uint64_t times = block->executions - block->before;
        total += times * block->instructions;
        for (int i = 0; i < CLASSES; i++) counts[i] += times * block->counts[i];
    }
    fprintf(out, "{\"total\": %" PRIu64, total);
    for (int i = 0; i < CLASSES; i++) fprintf(out, ", \"%s\": %" PRIu64, NAMES[i], counts[i]);
    fprintf(out, ", \"blocks\": [");
    const char *comma = "";
    for (struct block *block = with_blocks ? blocks : NULL; block; block = block->next) {
        uint64_t times = block->executions - block->before;
        if (!times) continue;
        fprintf(out, "%s[%" PRIu64 ", %" PRIu64 ", %" PRIu32, comma, block->address, times,
                block->instructions);
        for (int i = 0; i < CLASSES; i++) fprintf(out, ", %" PRIu32, block->counts[i]);
        fprintf(out, "]");
        comma = ", ";
    }
    fprintf(out, "]}\n");
    fflush(out);
}

static void called(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t mark, uint64_t a2,
                   uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != MARK) return;
    pthread_mutex_lock(&lock);
    if (mark == 1)
        for (struct block *block = blocks; block; block = block->next)
            block->before = block->executions;
    else
        tell(mark == 3);
    pthread_mutex_unlock(&lock);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
        if (!strcmp(argv[i], "atomic=on")) atomic = true;
    }
    if (!out) {
        fprintf(stderr, "counter: out=FILE is missing or cannot be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
