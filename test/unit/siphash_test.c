/*-------------------------------------------------------------------------
 *
 * siphash_test.c
 *	  The hash against what a second, independent program says.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "base/siphash.h"

/* Key 00 01 .. 0f, text 00 01 .. of that length. */
static const struct
{
	int len;
	LlmSipHash hash;
} expected[] = {
	{0, {UINT64CONST(0xbea58827b2bc7ee7), UINT64CONST(0x013030dd6adb62fd)}},
	{1, {UINT64CONST(0xa8edd36004376ffc), UINT64CONST(0x63f02f2bcc73055e)}},
	{7, {UINT64CONST(0xc3e0aaf223b98410), UINT64CONST(0x77ab4808c82e2fa6)}},
	{8, {UINT64CONST(0xb4dae3d5e1fe12aa), UINT64CONST(0x99c7f935ab164f72)}},
	{15, {UINT64CONST(0x6c52bdb205557ec1), UINT64CONST(0x09017e1eeccd2129)}},
	{63, {UINT64CONST(0x6f42fe4ee300584c), UINT64CONST(0xad6052a70a6b9f07)}},
	{300, {UINT64CONST(0x17c56127d6ea6531), UINT64CONST(0x2b57cd73cf9d8119)}},
};

int
main(void)
{
	LlmSipKey key = {UINT64CONST(0x0706050403020100), UINT64CONST(0x0f0e0d0c0b0a0908)};
	LlmSipKey other = {key.first, key.second + 1};
	LlmSipHash hash;
	unsigned char text[301];
	char name[64];
	int i;

	for (i = 0; i < lengthof(text); i++)
		text[i] = (unsigned char) i;
	for (i = 0; i < lengthof(expected); i++)
	{
		hash = llm_siphash(&key, text, expected[i].len);
		snprintf(name, sizeof(name), "%d bytes", expected[i].len);
		ok(hash.low == expected[i].hash.low && hash.high == expected[i].hash.high, name);
	}
	/* one byte further on: 300 bytes that are not aligned */
	memmove(text + 1, text, 300);
	hash = llm_siphash(&key, text + 1, 300);
	ok(hash.low == expected[6].hash.low && hash.high == expected[6].hash.high, "where the text lies does not matter");
	hash = llm_siphash(&other, text + 1, 300);
	ok(hash.low != expected[6].hash.low && hash.high != expected[6].hash.high, "the key does");
	return finish();
}
