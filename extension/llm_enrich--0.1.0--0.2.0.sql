\echo Use "ALTER EXTENSION llm_enrich UPDATE" to load this file. \quit

-- Whatever extension/parts has and 0.1.0 had not, in the order of the parts. It grows with each
-- change; what an installation of 0.1.0 becomes is compared with a new one by test 345.

-- Comments in plainer words.
COMMENT ON COLUMN llm.price.valid_until IS 'requests sent from then on no longer pay it';
COMMENT ON COLUMN llm.job.failed IS 'tasks that failed; see llm.dead_letter';
COMMENT ON COLUMN llm.job_cost.retries IS 'invalid answers after which the task is asked again';
COMMENT ON COLUMN llm.queue.tries IS 'tries so far: invalid answers, and requests without an answer, that are charged to the task';
COMMENT ON COLUMN llm.queue.last_answer IS 'last invalid answer';
COMMENT ON COLUMN llm.dead_letter.column_name IS 'column that the answer was for';
COMMENT ON COLUMN llm.dead_letter.tries IS 'tries: invalid answers, and requests without an answer';
COMMENT ON COLUMN llm.dead_letter.last_answer IS 'last invalid answer, as it came';
COMMENT ON COLUMN llm.progress.why IS 'what they wait for, if not just for their turn';
COMMENT ON COLUMN llm.progress.bar IS 'final tasks as a bar and in percent';
