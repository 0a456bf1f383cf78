/* Preloaded into a node: while the file $QUOTA_FLAG exists, whatever would take more room below $QUOTA_ROOT
   fails as it does on a file system whose quota is used up. What is there stays readable and removable. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int below(const char *path) {
    const char *root = getenv("QUOTA_ROOT");
    return root && path && !strncmp(path, root, strlen(root));
}

static int used_up(void) {
    const char *flag = getenv("QUOTA_FLAG");
    return flag && !access(flag, F_OK);
}

static int refused(int fd) {
    char link[64], path[PATH_MAX];
    struct stat status;
    if (!used_up() || fstat(fd, &status) || !S_ISREG(status.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    if (!below(path)) return 0;
    errno = EDQUOT;
    return 1;
}

static int refused_name(const char *path, int flags) {
    if (!(flags & O_CREAT) || !used_up() || !below(path) || !access(path, F_OK)) return 0;
    errno = EDQUOT;
    return 1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) { REAL(write); return refused(fd) ? -1 : real(fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { REAL(pwrite); return refused(fd) ? -1 : real(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); return refused(fd) ? -1 : real(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) { REAL(writev); return refused(fd) ? -1 : real(fd, parts, count); }
int posix_fallocate(int fd, off_t at, off_t size) { REAL(posix_fallocate); return refused(fd) ? EDQUOT : real(fd, at, size); }
int posix_fallocate64(int fd, off64_t at, off64_t size) { REAL(posix_fallocate64); return refused(fd) ? EDQUOT : real(fd, at, size); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); return refused_name(path, O_CREAT) ? -1 : real(path, mode); }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, int); va_end(rest); \
        return refused_name(path, flags) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
