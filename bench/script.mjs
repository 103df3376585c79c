// The script that people write instead: read the rows, ask for each of them with the
// official SDK, 64 at a time, and UPDATE each row with its answer.
//
//     node script.mjs TABLE REQUEST-FILE [IN-FLIGHT]
//
// REQUEST-FILE holds a request body; its last message is replaced by the row's input.
// PGHOST and friends tell the database, OPENAI_BASE_URL and OPENAI_API_KEY the
// provider. Prints rows per second, from the first SELECT to the last UPDATE.

import { readFile } from "node:fs/promises";
import OpenAI from "openai";
import pg from "pg";

const [table, requestFile, inFlight = "64"] = process.argv.slice(2);
const request = JSON.parse(await readFile(requestFile, "utf8"));
const client = new OpenAI();
const pool = new pg.Pool();

async function classify(row) {
	const messages = [...request.messages.slice(0, -1), { role: "user", content: row.body }];
	const answer = await client.chat.completions.create({ ...request, messages });
	const label = JSON.parse(answer.choices[0].message.content);
	await pool.query(`UPDATE ${table} SET label = $1 WHERE id = $2`, [label, row.id]);
}

const began = performance.now();
const { rows } = await pool.query(`SELECT id, body FROM ${table} WHERE label IS NULL ORDER BY id`);
let next = 0;

async function work() {
	while (next < rows.length) {
		await classify(rows[next++]);
	}
}

await Promise.all(Array.from({ length: Number(inFlight) }, work));
console.log(((rows.length * 1000) / (performance.now() - began)).toFixed(1));
await pool.end();
