-- What a call would send.
CREATE FUNCTION llm.preview(operation text, input text, labels text[] DEFAULT NULL, multi boolean DEFAULT false,
	schema jsonb DEFAULT NULL, max_words int DEFAULT NULL, model text DEFAULT NULL, instructions text DEFAULT NULL,
	examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL, condition text DEFAULT NULL, criterion text DEFAULT NULL,
	min float8 DEFAULT NULL, max float8 DEFAULT NULL, to_language text DEFAULT NULL, from_language text DEFAULT NULL,
	kinds text[] DEFAULT NULL, aspects text[] DEFAULT NULL, dimensions int DEFAULT NULL, descriptions jsonb DEFAULT NULL,
	allow_none boolean DEFAULT false, instruction text DEFAULT NULL, checks text[] DEFAULT NULL)
RETURNS jsonb LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_preview';
COMMENT ON FUNCTION llm.preview(text, text, text[], boolean, jsonb, int, text, text, jsonb, jsonb, text, text, float8, float8,
	text, text, text[], text[], int, jsonb, boolean, text, text[])
	IS 'return the request body of a call (operation: classify, extract, filter ..) and send nothing';
