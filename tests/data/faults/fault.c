/* Preloaded into a command: ends it, or fills its disk, at the nth call that changes a file. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long steps, writes;

static long at(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

/* FAULT_KILL_AT=n: killed just before the nth change that a crash could come between. */
static void step(void) {
    if (atomic_fetch_add(&steps, 1) + 1 == at("FAULT_KILL_AT"))
        kill(getpid(), SIGKILL);
}

/* FAULT_FULL_AT=n: the disk is full from the nth write on. Standard streams have no disk. */
static int is_full(int fd) {
    if (fd <= 2)
        return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || path[0] != '/')
        return 0;
    path[length] = 0;
    if (strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc/", 6) == 0)
        return 0;
    long from = at("FAULT_FULL_AT");
    long n = atomic_fetch_add(&writes, 1) + 1;
    return from > 0 && n >= from;
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld %ld\n", (long)steps, (long)writes);
        fclose(file);
    }
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)

int rename(const char *a, const char *b) { REAL(int, "rename", const char *, const char *); step(); return real(a, b); }
int link(const char *a, const char *b) { REAL(int, "link", const char *, const char *); step(); return real(a, b); }
int linkat(int c, const char *a, int d, const char *b, int f) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    step();
    return real(c, a, d, b, f);
}
int unlink(const char *a) { REAL(int, "unlink", const char *); step(); return real(a); }
int fsync(int fd) { REAL(int, "fsync", int); step(); return real(fd); }
int fdatasync(int fd) { REAL(int, "fdatasync", int); step(); return real(fd); }
int ftruncate(int fd, off_t n) { REAL(int, "ftruncate", int, off_t); step(); return real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(int, "ftruncate64", int, off64_t); step(); return real(fd, n); }

#define FULL(fd) do { if (is_full(fd)) { errno = ENOSPC; return -1; } } while (0)

ssize_t write(int fd, const void *b, size_t n) { REAL(ssize_t, "write", int, const void *, size_t); FULL(fd); return real(fd, b, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { REAL(ssize_t, "pwrite", int, const void *, size_t, off_t); FULL(fd); return real(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t); FULL(fd); return real(fd, b, n, o); }
ssize_t writev(int fd, const struct iovec *v, int n) { REAL(ssize_t, "writev", int, const struct iovec *, int); FULL(fd); return real(fd, v, n); }
ssize_t copy_file_range(int a, off64_t *x, int b, off64_t *y, size_t n, unsigned f) {
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    FULL(b);
    return real(a, x, b, y, n, f);
}
ssize_t sendfile(int b, int a, off_t *o, size_t n) { REAL(ssize_t, "sendfile", int, int, off_t *, size_t); FULL(b); return real(b, a, o, n); }
ssize_t sendfile64(int b, int a, off64_t *o, size_t n) { REAL(ssize_t, "sendfile64", int, int, off64_t *, size_t); FULL(b); return real(b, a, o, n); }
