/*-------------------------------------------------------------------------
 *
 * main.c
 *	  Options, start and stop of the simulated provider.
 *
 * Reads the command line, then hands over to server_run() until SIGTERM, and
 * frees everything, so that leak checkers have a clean end to look at.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Options
{
	int port;
	const char *port_file;
	const char *pid_file;
	const char *key;
	uint64_t seed;
	long log;
	bool exit_with_stdin;
} Options;

static void
usage(FILE *to)
{
	fputs("llm-provider plays an LLM provider on 127.0.0.1 for tests, demo and benchmark.\n\n"
		  "Usage: llm-provider [OPTION]...\n"
		  "  --port N            port to listen on; 0 chooses a free one (default 0)\n"
		  "  --port-file PATH    write the port there (default: to standard output)\n"
		  "  --pid-file PATH     write the process id there\n"
		  "  --key KEY           require \"Authorization: Bearer KEY\"\n"
		  "  --seed N            start of the random numbers (default 1)\n"
		  "  --log N             keep the last N requests (default 10000)\n"
		  "  --exit-with-stdin   exit when standard input is closed\n"
		  "  --help              show this\n",
		  to);
}

static long
number_option(const char *text, const char *name, long most)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || number < 0 || number > most)
	{
		fprintf(stderr, "llm-provider: --%s must be a number between 0 and %ld\n", name, most);
		exit(2);
	}
	return number;
}

static void
read_options(Options *options, int argc, char **argv)
{
	static const struct option known[] = {
		{"port", required_argument, NULL, 'p'},
		{"port-file", required_argument, NULL, 'f'},
		{"pid-file", required_argument, NULL, 'i'},
		{"key", required_argument, NULL, 'k'},
		{"seed", required_argument, NULL, 's'},
		{"log", required_argument, NULL, 'l'},
		{"exit-with-stdin", no_argument, NULL, 'x'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
	{
		switch (option)
		{
			case 'p':
				options->port = (int) number_option(optarg, "port", 65535);
				break;
			case 'f':
				options->port_file = optarg;
				break;
			case 'i':
				options->pid_file = optarg;
				break;
			case 'k':
				options->key = optarg;
				break;
			case 's':
				options->seed = (uint64_t) number_option(optarg, "seed", 2147483647);
				break;
			case 'l':
				options->log = number_option(optarg, "log", 10000000);
				break;
			case 'x':
				options->exit_with_stdin = true;
				break;
			case 'h':
				usage(stdout);
				exit(0);
			default:
				usage(stderr);
				exit(2);
		}
	}
	if (optind < argc)
	{
		usage(stderr);
		exit(2);
	}
}

static void
write_pid_file(const char *path)
{
	FILE *file = fopen(path, "w");

	if (file == NULL || fprintf(file, "%ld\n", (long) getpid()) < 0 || fclose(file) != 0)
	{
		fprintf(stderr, "llm-provider: could not write \"%s\"\n", path);
		exit(1);
	}
}

int
main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = server_stop};
	Options options = {.seed = 1, .log = LOG_ENTRIES};
	sigset_t stop_signals;

	read_options(&options, argc, argv);
	setlocale(LC_CTYPE, "C.UTF-8"); /* regular expressions see characters, not bytes */
	sigemptyset(&stop_signals);
	sigaddset(&stop_signals, SIGTERM);
	sigaddset(&stop_signals, SIGINT);
	sigprocmask(SIG_BLOCK, &stop_signals, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
	random_seed(options.seed);
	api_set_key(options.key);
	meter_keep(options.log > 0 ? (size_t) options.log : 1);
	if (options.pid_file != NULL)
		write_pid_file(options.pid_file);
	server_run(options.port, options.port_file, options.exit_with_stdin);
	if (options.pid_file != NULL)
		unlink(options.pid_file);
	chat_free();
	answer_free();
	chat_parse_free();
	recipes_free();
	lanes_free();
	api_free();
	return 0;
}
