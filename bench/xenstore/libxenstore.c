/* The C library's way: reads a node N times, one after the other. Prints nanoseconds in all. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <xenstore.h>

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  int count = atoi(argv[2]);
  struct xs_handle *xs = xs_open(0);
  if (xs == NULL) return 1;
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  for (int i = 0; i < count; i++) {
    unsigned length;
    char *value = xs_read(xs, XBT_NULL, argv[1], &length);
    if (value == NULL) return 1;
    free(value);
  }
  clock_gettime(CLOCK_MONOTONIC, &to);
  printf("%lld\n", (to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec - from.tv_nsec);
  xs_close(xs);
  return 0;
}
