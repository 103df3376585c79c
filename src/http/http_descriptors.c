/*-------------------------------------------------------------------------
 *
 * http_descriptors.c
 *	  How many sockets this process may have.
 *
 * PostgreSQL keeps a process to max_files_per_process files of its own, and lets others have
 * a third of that.  A sender is a process of ours and reads few files: beyond what PostgreSQL
 * may use of them, the operating system's limit is what counts, and up to its hard limit a
 * process may raise that itself.  Where even so there is little room, the third is used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/resource.h>

#include "storage/fd.h"

#include "http/http_descriptors.h"

/* Files that are open for other reasons, and libcurl's own: for names, and to wake itself. */
#define OTHER_DESCRIPTORS 64

/* Of the third that PostgreSQL lets others have, what is libcurl's own. */
#define OTHER_OF_THIRD 8

/* Sockets that fit beside all that PostgreSQL may open, how many of them there are, and others. */
static int beside = 0;
static int taken_beside = 0;
static int taken_of_third = 0;

int
llm_http_descriptors_room(int wanted, int *limit)
{
	rlim_t own = (rlim_t) max_files_per_process + OTHER_DESCRIPTORS;
	struct rlimit rlimit;
	int third = Max(max_safe_fds / 3 - OTHER_OF_THIRD, 1);

	*limit = max_files_per_process;
	if (getrlimit(RLIMIT_NOFILE, &rlimit) == 0)
	{
		rlim_t needed = own + wanted;

		if (rlimit.rlim_cur != RLIM_INFINITY && rlimit.rlim_cur < needed)
		{
			rlim_t before = rlimit.rlim_cur;

			rlimit.rlim_cur = rlimit.rlim_max == RLIM_INFINITY ? needed : Min(needed, rlimit.rlim_max);
			if (setrlimit(RLIMIT_NOFILE, &rlimit) != 0)
				rlimit.rlim_cur = before;
		}
		if (rlimit.rlim_cur == RLIM_INFINITY || rlimit.rlim_cur >= needed)
			beside = wanted;
		else
			beside = rlimit.rlim_cur > own ? (int) (rlimit.rlim_cur - own) : 0;
		*limit = rlimit.rlim_cur == RLIM_INFINITY ? PG_INT32_MAX : (int) Min(rlimit.rlim_cur, PG_INT32_MAX);
	}
	return Min(wanted, beside + third);
}

bool
llm_http_descriptors_take(void)
{
	if (taken_beside < beside)
	{
		taken_beside++;
		return true;
	}
	if (!AcquireExternalFD())
		return false;
	taken_of_third++;
	return true;
}

/* Those that PostgreSQL counts go first. */
void
llm_http_descriptors_release(void)
{
	if (taken_of_third > 0)
	{
		taken_of_third--;
		ReleaseExternalFD();
	}
	else
		taken_beside--;
}
