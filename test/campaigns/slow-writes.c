/*
 * Slows the writes of an unmodified program to the pool files, for LD_PRELOAD: each write is done page by page with a pause of
 * random length before each, as are changes of length and syncs. A kill then comes between two pages as often as one
 * likes. With PVBUS_SLOW_READS reads are slowed as well.
 *
 * PVBUS_SLOW_PAUSE  longest pause in microseconds
 * PVBUS_SLOW_COUNT  file of four 64-bit counters: pages, changes of length, syncs, reads
 * PVBUS_SLOW_READS  length of a pause before each read in microseconds
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 0, LENGTHS = 1, SYNCS = 2, READS = 3, COUNTERS = 4 };

static uint64_t *counters;
static long longest;
static long read_pause;
static uint64_t state;

static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
  const char *pause = getenv("PVBUS_SLOW_PAUSE");
  const char *reads = getenv("PVBUS_SLOW_READS");
  const char *count = getenv("PVBUS_SLOW_COUNT");
  longest = pause == NULL ? 0 : atol(pause);
  read_pause = reads == NULL ? 0 : atol(reads);
  real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  real_write = dlsym(RTLD_NEXT, "write");
  real_pread = dlsym(RTLD_NEXT, "pread64");
  real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  state = (uint64_t)now.tv_nsec ^ ((uint64_t)getpid() << 32) ^ 0x9e3779b97f4a7c15u;
  if (count == NULL) return;
  int fd = open(count, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *place = mmap(NULL, COUNTERS * sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (place != MAP_FAILED) counters = place;
  close(fd);
}

static int is_pool(int fd) {
  char link[32], path[512];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return strstr(path, "/.kvp_pool_") != NULL;
}

static void sleep_for(long microseconds) {
  struct timespec pause = {microseconds / 1000000, microseconds % 1000000 * 1000};
  while (nanosleep(&pause, &pause) < 0 && errno == EINTR) continue;
}

static void step(int what) {
  if (counters != NULL) __atomic_fetch_add(&counters[what], 1, __ATOMIC_RELAXED);
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  if (longest > 0) sleep_for((long)(state % (uint64_t)longest));
}

static ssize_t by_pages(int fd, const char *bytes, size_t size, off_t at) {
  size_t done = 0;
  while (done < size) {
    size_t count = PAGE - (size_t)(at + (off_t)done) % PAGE;
    if (count > size - done) count = size - done;
    step(PAGES);
    ssize_t written = real_pwrite(fd, bytes + done, count, at + (off_t)done);
    if (written < 0) return done > 0 ? (ssize_t)done : written;
    done += (size_t)written;
  }
  return (ssize_t)done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at) {
  if (!is_pool(fd)) return real_pwrite(fd, bytes, size, at);
  return by_pages(fd, bytes, size, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
  return pwrite64(fd, bytes, size, at);
}

ssize_t write(int fd, const void *bytes, size_t size) {
  if (!is_pool(fd)) return real_write(fd, bytes, size);
  int append = (fcntl(fd, F_GETFL) & O_APPEND) != 0;
  off_t at = lseek(fd, 0, append ? SEEK_END : SEEK_CUR);
  if (at < 0) return real_write(fd, bytes, size);
  ssize_t done = by_pages(fd, bytes, size, at);
  if (done > 0) lseek(fd, at + done, SEEK_SET);
  return done;
}

ssize_t pread64(int fd, void *into, size_t size, off_t at) {
  if (read_pause > 0 && is_pool(fd)) {
    if (counters != NULL) __atomic_fetch_add(&counters[READS], 1, __ATOMIC_RELAXED);
    sleep_for(read_pause);
  }
  return real_pread(fd, into, size, at);
}

ssize_t pread(int fd, void *into, size_t size, off_t at) {
  return pread64(fd, into, size, at);
}

int ftruncate64(int fd, off_t size) {
  if (is_pool(fd)) step(LENGTHS);
  return real_ftruncate(fd, size);
}

int ftruncate(int fd, off_t size) {
  return ftruncate64(fd, size);
}

int fsync(int fd) {
  if (is_pool(fd)) step(SYNCS);
  return real_fsync(fd);
}

int fdatasync(int fd) {
  if (is_pool(fd)) step(SYNCS);
  return real_fdatasync(fd);
}
