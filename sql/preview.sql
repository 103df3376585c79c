-- llm.preview: the body of a call, nothing sent.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
CREATE ROLE preview_user;
CREATE SERVER preview_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://api.openai.com/v1');
SELECT llm.add_model('preview_fast', server => 'preview_server', model => 'gpt-5-mini');
SELECT llm.add_model('preview_default', server => 'preview_server', model => 'gpt-5.6-luna', is_default => true);
CREATE VIEW preview_queue AS SELECT count(*) FROM llm.queue;

SELECT jsonb_pretty(llm.preview('classify', 'My card was charged twice', '{billing,bug,feature,other}', model => 'preview_fast'));
SELECT llm.preview('summarize', 'long story', max_words => 20) -> 'messages' -> 0 ->> 'content';
SELECT llm.preview('extract', 'Ann, 37', schema => '{"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}',
	instructions => 'Names are English.', examples => '[{"input": "Bob", "output": {"name": "Bob"}}]', options => '{"temperature": 0, "max_tokens": 50, "priority": 3}') - 'messages';
SELECT llm.preview('complete', E'Say "hi"\n');
-- the model: named, of the setting, or the default
SELECT llm.preview('complete', 'x', model => 'preview_fast') ->> 'model', llm.preview('complete', 'x') ->> 'model';
SET llm_enrich.model = 'preview_fast';
SELECT llm.preview('complete', 'x') ->> 'model';
RESET llm_enrich.model;
-- NULL in, NULL out
SELECT llm.preview('complete', NULL) IS NULL, llm.preview(NULL, 'x') IS NULL;
-- what the call itself would refuse
SELECT llm.preview('llm_classify', 'x');
SELECT llm.preview('classify', 'x', '{a,a}');
SELECT llm.preview('classify', 'x', '{{a,b},{c,d}}');
SELECT llm.preview('summarize', 'x', max_words => 0);
SELECT llm.preview('summarize', 'x', '{a}');
SELECT llm.preview('complete', 'x', options => '{"prioritty": 1}');
SELECT llm.preview('complete', 'x', options => '{"priority": 1000}');
SELECT llm.preview('extract', 'x', schema => (repeat('{"type": "object", "properties": {"a": ', 40) || '{}' || repeat('}}', 40))::jsonb);
-- conditions are no part of what is sent, and are looked at as those of a call
SELECT llm.preview('classify', 'x', '{a,b}', model => 'preview_fast', checks => ARRAY[$$answer->>'label' <> 'a'$$]) =
	llm.preview('classify', 'x', '{a,b}', model => 'preview_fast') AS same;
SELECT llm.preview('classify', 'x', '{a,b}', model => 'preview_fast', checks => ARRAY['nothing > 1']);
-- nowhere to send it
SELECT llm.preview('complete', 'x', model => 'none');
SET ROLE preview_user;
SELECT llm.preview('complete', 'x', model => 'preview_fast');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER preview_server TO preview_user;
SET ROLE preview_user;
SELECT llm.preview('complete', 'x', model => 'preview_fast');
RESET ROLE;
-- nothing was queued
SELECT * FROM preview_queue;

SET client_min_messages = warning;
DROP VIEW preview_queue;
SELECT llm.drop_model('preview_fast'), llm.drop_model('preview_default');
DROP SERVER preview_server CASCADE;
DROP ROLE preview_user;
