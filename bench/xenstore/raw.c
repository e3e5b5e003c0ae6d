/* What a C program can do at most: READ requests of one node, W of them under way, batched as they are answered. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static char in[1 << 16], out[1 << 16];

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  const char *path = argv[2];
  int count = atoi(argv[3]), window = atoi(argv[4]);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) return 1;
  uint32_t length = strlen(path) + 1;
  size_t size = 16 + length, have = 0;
  int sent = 0, answered = 0, under_way = 0;
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  while (answered < count) {
    size_t used = 0;
    for (; sent < count && under_way < window; sent++, under_way++, used += size) {
      uint32_t header[4] = {2, sent, 0, length};
      memcpy(out + used, header, 16);
      memcpy(out + used + 16, path, length);
    }
    for (size_t done = 0; done < used;) {
      ssize_t put = write(fd, out + done, used - done);
      if (put <= 0) return 1;
      done += put;
    }
    ssize_t got = read(fd, in + have, sizeof in - have);
    if (got <= 0) return 1;
    have += got;
    size_t at = 0;
    for (;;) {
      uint32_t header[4];
      if (have - at < 16) break;
      memcpy(header, in + at, 16);
      if (header[0] != 2 || header[3] > 4096) return 1;
      if (have - at < 16 + header[3]) break;
      at += 16 + header[3];
      answered++, under_way--;
    }
    memmove(in, in + at, have - at);
    have -= at;
  }
  clock_gettime(CLOCK_MONOTONIC, &to);
  printf("%lld\n", (to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec - from.tv_nsec);
  return 0;
}
