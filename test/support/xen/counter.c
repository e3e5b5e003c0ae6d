/* The C library's side of a contest: adds one to a node, N times, each in a transaction. Prints how often it had to retry. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  struct xs_handle *xs = xs_open(0);
  if (xs == NULL) return 1;
  int retries = 0;
  for (int left = atoi(argv[2]); left > 0;) {
    unsigned length;
    char text[32];
    xs_transaction_t transaction = xs_transaction_start(xs);
    if (transaction == XBT_NULL) return 1;
    char *value = xs_read(xs, transaction, argv[1], &length);
    if (value == NULL) return 1;
    snprintf(text, sizeof text, "%d", atoi(value) + 1);
    free(value);
    if (!xs_write(xs, transaction, argv[1], text, strlen(text))) return 1;
    if (xs_transaction_end(xs, transaction, 0)) left--;
    else if (errno == EAGAIN) retries++;
    else return 1;
  }
  printf("%d\n", retries);
  xs_close(xs);
  return 0;
}
