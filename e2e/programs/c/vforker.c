/* Counts a line each ten milliseconds, and waits after each for a child made by vfork that lives for CHILD microseconds (argument).
   Without an argument the first child goes on counting for ever. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long n;

static void wait_for(long us) {
	struct timespec t = {us / 1000000, us % 1000000 * 1000};
	nanosleep(&t, NULL);
}

static void count(void) {
	char line[32];
	int len = snprintf(line, sizeof line, "%ld\n", ++n);
	if (write(1, line, len) != len)
		_exit(3);
	wait_for(10000);
}

int main(int argc, char **argv) {
	for (;;) {
		count();
		pid_t child = vfork();
		if (child < 0)
			return 3;
		if (child > 0)
			continue;
		while (argc < 2)
			count();
		wait_for(atol(argv[1]));
		_exit(0);
	}
}
