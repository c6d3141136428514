/* Preloaded (LD_PRELOAD): the N-th call that changes a file of a folder fails, in whatever library it is made.

   FAULT_FOLDER: files below it and relative paths alone; FAULT_CALL: open, write, fsync or rename; FAULT_NUMBER: N, from 1
   (0: none); FAULT_ERRNO: what the call says; FAULT_STAYS: set where every later one fails too; FAULT_COUNT: a file that
   gets the number of calls at exit. They are read at each call, so a process that was forked from one which had loaded
   everything can set them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))
static atomic_int calls;

static int fails(const char *call, const char *path) {
    const char *wanted = getenv("FAULT_CALL"), *folder = getenv("FAULT_FOLDER");
    if (!wanted || !folder || strcmp(call, wanted)) return 0;
    if (path[0] == '/' && strncmp(path, folder, strlen(folder))) return 0;
    if (strstr(path, "__pycache__")) return 0;
    const char *number = getenv("FAULT_NUMBER"), *error = getenv("FAULT_ERRNO");
    int n = number ? atoi(number) : 0, now = atomic_fetch_add(&calls, 1) + 1;
    if (!n || now < n || (now > n && !getenv("FAULT_STAYS"))) return 0;
    errno = error ? atoi(error) : EIO;
    return 1;
}

static int fails_file(const char *call, int file) {
    char link[64], path[PATH_MAX];
    if (!getenv("FAULT_CALL")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return path[0] == '/' && fails(call, path);
}

static void report(void) {
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path ? REAL(fopen)(path, "w") : NULL;
    if (file) { fprintf(file, "%d", calls); fclose(file); }
}

void _exit(int status) { /* with which the stage of a preloaded server ends */
    report();
    REAL(_exit)(status);
    __builtin_unreachable();
}

#define CHANGES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT))
#define MODE(flags) \
    int mode = 0; \
    va_list rest; \
    va_start(rest, flags); \
    if ((flags) & (O_CREAT | O_TMPFILE)) \
        mode = va_arg(rest, int); \
    va_end(rest)

int open(const char *path, int flags, ...) {
    MODE(flags);
    return CHANGES(flags) && fails("open", path) ? -1 : REAL(open)(path, flags, mode); }
int open64(const char *path, int flags, ...) {
    MODE(flags);
    return CHANGES(flags) && fails("open", path) ? -1 : REAL(open64)(path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags);
    return CHANGES(flags) && fails("open", path) ? -1 : REAL(openat)(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags);
    return CHANGES(flags) && fails("open", path) ? -1 : REAL(openat64)(folder, path, flags, mode); }
FILE *fopen(const char *path, const char *mode) {
    return strpbrk(mode, "wa+") && fails("open", path) ? NULL : REAL(fopen)(path, mode); }
FILE *fopen64(const char *path, const char *mode) {
    return strpbrk(mode, "wa+") && fails("open", path) ? NULL : REAL(fopen64)(path, mode); }
ssize_t write(int file, const void *data, size_t size) {
    return fails_file("write", file) ? -1 : REAL(write)(file, data, size); }
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    return fails_file("write", file) ? -1 : REAL(pwrite)(file, data, size, at); }
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    return fails_file("write", file) ? -1 : REAL(pwrite64)(file, data, size, at); }
ssize_t writev(int file, const struct iovec *parts, int count) {
    return fails_file("write", file) ? -1 : REAL(writev)(file, parts, count); }
size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
    return fails_file("write", fileno(file)) ? 0 : REAL(fwrite)(data, size, count, file); }
int fsync(int file) { return fails_file("fsync", file) ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return fails_file("fsync", file) ? -1 : REAL(fdatasync)(file); }
int rename(const char *from, const char *to) { return fails("rename", to) ? -1 : REAL(rename)(from, to); }
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return fails("rename", to) ? -1 : REAL(renameat)(from_folder, from, to_folder, to); }
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    return fails("rename", to) ? -1 : REAL(renameat2)(from_folder, from, to_folder, to, flags); }
