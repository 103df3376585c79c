--
-- Lists of prices from elsewhere, and tiers of long prompts
--
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT llm.import_prices('{
	"sample_spec": {"litellm_provider": "one of many", "mode": "chat", "input_cost_per_token": 0},
	"gpt-9": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06,
		"cache_read_input_token_cost": 2.5e-08, "max_input_tokens": 272000, "max_output_tokens": 128000,
		"input_cost_per_token_batches": 1.25e-07, "output_cost_per_token_batches": 1e-06,
		"input_cost_per_token_above_272k_tokens": 5e-07, "output_cost_per_token_above_272k_tokens": 3e-06,
		"cache_read_input_token_cost_above_272k_tokens": 5e-08},
	"gemini/gemini-9": {"litellm_provider": "gemini", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 4e-06},
	"together_ai/org/name": {"litellm_provider": "together_ai", "mode": "chat", "input_cost_per_token": 1e-07, "output_cost_per_token": 1e-07},
	"embed-9": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 2e-08},
	"no-price": {"litellm_provider": "openai", "mode": "chat"},
	"bad-price": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": -1, "output_cost_per_token": "x"},
	"an-image": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_token": 1}}', as_of => '2026-10-01');
SELECT provider, model, input_per_mtok, cached_input_per_mtok, output_per_mtok, batch_input_per_mtok, batch_output_per_mtok,
	context_tokens, max_output_tokens, tiers, as_of
FROM llm.price_list WHERE as_of = '2026-10-01' ORDER BY provider, model;
SELECT llm.import_prices('[]');
SELECT count(*) > 40 AS listed, min(as_of), count(tiers) AS tiered FROM llm.price_list WHERE as_of < '2026-10-01';

-- a model takes its tiers along
CREATE SERVER prices FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://api.openai.com/v1');
SELECT llm.add_model('nine', server => 'prices', model => 'gpt-9');
SELECT input_per_mtok, output_per_mtok, tiers FROM llm.price WHERE server = 'prices';
SELECT llm.set_price('nine', 1, 2, tiers => '[{"above_tokens": 100, "input_per_mtok": 3}]');
SELECT input_per_mtok, output_per_mtok, tiers FROM llm.price WHERE server = 'prices' AND valid_until = 'infinity';
SELECT llm.set_price('nine', 1, 2, tiers => '{}');
SELECT llm.set_price('nine', 1, 2, tiers => '[{"input_per_mtok": 3}]');
SELECT llm.set_price('nine', 1, 2, tiers => '[{"above_tokens": 100, "input_per_mtok": -3}]');
SELECT llm.set_price('nine', 1, 2, tiers => '[{"above_tokens": 100, "input": 3}]');
SELECT llm.set_price('nine', 1, 2, tiers => '[{"above_tokens": 100, "input_per_mtok": 1e300}]');
SELECT llm.set_price('nine', 1, 2, tiers => '[{"above_tokens": 2000000, "input_per_mtok": 1}]');
SELECT llm.set_price('nine', 1e300, 1);
SELECT llm.set_price('nine', 1, 1000001);

-- and those of its service tiers
SELECT llm.import_prices('{"gpt-9": {"litellm_provider": "openai", "mode": "chat",
	"input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06, "input_cost_per_token_batches": 1.25e-07,
	"input_cost_per_token_flex": 1.25e-07, "output_cost_per_token_flex": 1e-06, "cache_read_input_token_cost_flex": 1.25e-08,
	"input_cost_per_token_priority": 5e-07, "output_cost_per_token_priority": 4e-06,
	"input_cost_per_token_above_272k_tokens": 5e-07, "output_cost_per_token_above_272k_tokens": 3e-06,
	"input_cost_per_token_above_272k_tokens_priority": 1e-06, "output_cost_per_token_above_272k_tokens_priority": 6e-06},
	"half": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06,
	"input_cost_per_token_flex": 5e-07}}', as_of => '2026-10-02');
SELECT l.model, t FROM llm.price_list l LEFT JOIN LATERAL jsonb_array_elements(l.tiers) WITH ORDINALITY e(t, n) ON true
WHERE l.as_of = '2026-10-02' ORDER BY l.model, n;
SELECT llm.set_price('nine', 1, 2, tiers => '[{"service_tier": "flex", "input_per_mtok": 0.5, "output_per_mtok": 1}]');
SELECT llm.set_price('nine', 1, 2, tiers => '[{"service_tier": "", "input_per_mtok": 0.5}]');
SELECT llm.set_price('nine', 1, 2, tiers => '[{"service_tier": 5, "input_per_mtok": 0.5}]');
SELECT llm.set_price('nine', 1, 2, tiers => '[{"service_tier": "flex", "above_tokens": "many"}]');
SELECT llm.set_price('nine', 1, 2, tiers => '[{"service_tier": "flex", "output_per_mtok": -1}]');

-- a model that asks for one that has no price costs an estimate, and one that has none at all meets no budget
SELECT llm.alter_model('nine', options => '{"extra_body": {"service_tier": "priority"}}');
SELECT subject, state, problem, hint FROM llm.health WHERE kind = 'model';
SELECT llm.set_price('nine', 1, 2, tiers => '[{"service_tier": "Priority", "input_per_mtok": 5, "output_per_mtok": 9}]');
SELECT llm.add_model('ten', server => 'prices', model => 'gpt-10');
SELECT count(*) FROM llm.health WHERE kind = 'model';
SELECT llm.set_budget(5, model => 'ten') > 0 AS budget;
SELECT subject, state, problem, hint FROM llm.health WHERE kind = 'model';
SELECT llm.drop_budget(id), llm.drop_model('ten') FROM llm.budget WHERE model = 'ten';

-- not everybody's to do
CREATE ROLE prices_user;
SET ROLE prices_user;
SELECT llm.import_prices('{}');
RESET ROLE;
SELECT llm.drop_model('nine');
DROP SERVER prices;
DROP ROLE prices_user;
