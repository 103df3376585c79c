-- What an installation of the extension is, one property a line: "object: property". Two installations
-- are equal when this prints the same for both; a difference of the lines says which object differs, and
-- in what. Column numbers and OIDs are left out, since they tell how an installation came about.
--
-- Used by test/t/345_upgrade.pl. By hand: psql -XAtf test/upgrade/catalog.sql DATABASE

SET search_path = pg_catalog;
WITH extension AS (
	SELECT * FROM pg_extension WHERE extname = 'llm_enrich'
), member AS (
	SELECT d.classid, d.objid FROM pg_depend d, extension e
	WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
), relation AS (
	SELECT c.* FROM pg_class c
	WHERE c.relnamespace = 'llm'::regnamespace
		OR EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid)
), routine AS (
	SELECT p.* FROM pg_proc p
	WHERE p.pronamespace = 'llm'::regnamespace
		OR EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
), object AS (
	SELECT classid, objid FROM member
	UNION SELECT 'pg_class'::regclass, oid FROM relation
	UNION SELECT 'pg_proc'::regclass, oid FROM routine
	UNION SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c JOIN relation r ON r.oid = c.conrelid WHERE c.contype <> 'n'
	UNION SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c
		JOIN member m ON m.classid = 'pg_type'::regclass AND m.objid = c.contypid
	UNION SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
	UNION SELECT 'pg_policy'::regclass, p.oid FROM pg_policy p JOIN relation r ON r.oid = p.polrelid
	UNION SELECT 'pg_rewrite'::regclass, w.oid FROM pg_rewrite w JOIN relation r ON r.oid = w.ev_class
		WHERE w.rulename <> '_RETURN'
	UNION SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext s JOIN relation r ON r.oid = s.stxrelid
	UNION SELECT 'pg_publication'::regclass, p.prpubid FROM pg_publication_rel p JOIN relation r ON r.oid = p.prrelid
), named AS (
	SELECT o.classid, o.objid, i.type || ' ' || i.identity AS name
	FROM object o, pg_identify_object(o.classid, o.objid, 0) i
), line (name, section, n, line) AS (
	-- everything
	SELECT n.name, 1, 1, CASE WHEN EXISTS (SELECT FROM member m WHERE (m.classid, m.objid) = (n.classid, n.objid))
		THEN 'member of the extension' ELSE 'not a member itself' END
	FROM named n
	UNION ALL
	SELECT n.name || coalesce(' column ' || quote_ident(a.attname), ''), 9, l.n, 'comment: ' || l.line
	FROM named n JOIN pg_description d ON d.classoid = n.classid AND d.objoid = n.objid
		LEFT JOIN pg_attribute a ON n.classid = 'pg_class'::regclass AND a.attrelid = n.objid AND a.attnum = d.objsubid AND d.objsubid > 0,
		regexp_split_to_table(d.description, '\n') WITH ORDINALITY l (line, n)
	UNION ALL
	SELECT n.name || coalesce(' column ' || quote_ident(a.attname), ''), 8, 1, 'privileges as installed: '
		|| (SELECT string_agg(x::text, ' ' ORDER BY x::text COLLATE "C") FROM unnest(i.initprivs) x)
	FROM named n JOIN pg_init_privs i ON i.classoid = n.classid AND i.objoid = n.objid
		LEFT JOIN pg_attribute a ON n.classid = 'pg_class'::regclass AND a.attrelid = n.objid AND a.attnum = i.objsubid AND i.objsubid > 0

	-- tables, views, indexes, sequences
	UNION ALL
	SELECT n.name, 2, p.n, p.line
	FROM relation r JOIN named n ON n.classid = 'pg_class'::regclass AND n.objid = r.oid
		LEFT JOIN pg_class t ON t.oid = r.reltoastrelid
		LEFT JOIN pg_am am ON am.oid = r.relam
		LEFT JOIN pg_index x ON x.indexrelid = r.oid
		LEFT JOIN pg_sequence s ON s.seqrelid = r.oid,
		LATERAL (VALUES
			(1, 'owner: ' || r.relowner::regrole),
			(2, format('kind: %s, persistence %s, replica identity %s, access method %s',
				r.relkind, r.relpersistence, r.relreplident, coalesce(am.amname, '-'))),
			(3, 'options: ' || (SELECT string_agg(o, ', ' ORDER BY o COLLATE "C") FROM unnest(r.reloptions) o)),
			(4, 'options of its toast table: ' || (SELECT string_agg(o, ', ' ORDER BY o COLLATE "C") FROM unnest(t.reloptions) o)),
			(5, format('row security: %s, forced: %s', r.relrowsecurity, r.relforcerowsecurity)),
			(6, 'privileges: ' || (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C")
				FROM unnest(coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, r.relowner))) a)
				|| CASE WHEN r.relkind IN ('i', 'I') THEN NULL ELSE '' END),
			(7, 'index: ' || pg_get_indexdef(x.indexrelid)),
			(8, format('index is valid: %s, clustered: %s, replica identity: %s', x.indisvalid, x.indisclustered, x.indisreplident)
				|| left(x.indexrelid::text, 0)),
			(9, format('sequence: %s, start %s, increment %s, minimum %s, maximum %s, cache %s, cycle %s', format_type(s.seqtypid, NULL),
				s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle) || left(s.seqrelid::text, 0)),
			(10, 'sequence belongs to: ' || (SELECT format('%s.%s', d.refobjid::regclass, a.attname)
				FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
				WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.deptype IN ('a', 'i') AND r.relkind = 'S'))
		) p (n, line)
	UNION ALL
	SELECT n.name, 3, l.n, 'definition: ' || l.line
	FROM relation r JOIN named n ON n.classid = 'pg_class'::regclass AND n.objid = r.oid,
		regexp_split_to_table(pg_get_viewdef(r.oid), '\n') WITH ORDINALITY l (line, n)
	WHERE r.relkind IN ('v', 'm')
	UNION ALL
	SELECT format('%s column %I', n.name, a.attname), 1, p.n, p.line
	FROM relation r JOIN named n ON n.classid = 'pg_class'::regclass AND n.objid = r.oid
		JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		LEFT JOIN pg_collation c ON c.oid = a.attcollation,
		LATERAL (VALUES
			(1, format('type: %s%s%s', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' NOT NULL' END,
				' COLLATE ' || c.collname)),
			(2, 'default: ' || pg_get_expr(d.adbin, d.adrelid)),
			(3, format('identity %s, generated %s, storage %s, compression %s, statistics %s', nullif(a.attidentity, ''),
				nullif(a.attgenerated, ''), a.attstorage, nullif(a.attcompression, ''), a.attstattarget)),
			-- some minor releases keep a note of their own among these
			(4, 'options: ' || (SELECT string_agg(o, ', ' ORDER BY o COLLATE "C") FROM unnest(a.attoptions) o WHERE o ~ '^n_distinct')),
			(5, 'privileges: ' || (SELECT string_agg(x::text, ' ' ORDER BY x::text COLLATE "C") FROM unnest(a.attacl) x))
		) p (n, line)
	WHERE r.relkind NOT IN ('S', 'i', 'I')
	UNION ALL
	SELECT n.name, 2, 1, format('%s%s', pg_get_constraintdef(c.oid), CASE WHEN c.convalidated THEN '' ELSE ' (not validated)' END)
	FROM pg_constraint c JOIN named n ON n.classid = 'pg_constraint'::regclass AND n.objid = c.oid
	UNION ALL
	SELECT n.name, 2, 1, format('%s (enabled: %s)', pg_get_triggerdef(t.oid), t.tgenabled)
	FROM pg_trigger t JOIN named n ON n.classid = 'pg_trigger'::regclass AND n.objid = t.oid
	UNION ALL
	SELECT n.name, 2, p.n, p.line
	FROM pg_policy l JOIN named n ON n.classid = 'pg_policy'::regclass AND n.objid = l.oid,
		LATERAL (VALUES
			(1, format('command %s, permissive %s, roles %s', l.polcmd, l.polpermissive,
				(SELECT string_agg(CASE x WHEN 0 THEN 'PUBLIC' ELSE x::regrole::text END, ' ' ORDER BY 1) FROM unnest(l.polroles) x))),
			(2, 'using: ' || pg_get_expr(l.polqual, l.polrelid)),
			(3, 'check: ' || pg_get_expr(l.polwithcheck, l.polrelid))
		) p (n, line)
	UNION ALL
	SELECT n.name, 2, 1, format('%s (enabled: %s)', pg_get_ruledef(w.oid), w.ev_enabled)
	FROM pg_rewrite w JOIN named n ON n.classid = 'pg_rewrite'::regclass AND n.objid = w.oid
	UNION ALL
	SELECT n.name, 2, 1, pg_get_statisticsobjdef(s.oid)
	FROM pg_statistic_ext s JOIN named n ON n.classid = 'pg_statistic_ext'::regclass AND n.objid = s.oid

	-- functions: whatever CREATE FUNCTION can say is in the definition
	UNION ALL
	SELECT n.name, 2, p.n, p.line
	FROM routine r JOIN named n ON n.classid = 'pg_proc'::regclass AND n.objid = r.oid,
		LATERAL (VALUES
			(1, 'owner: ' || r.proowner::regrole),
			(2, format('kind %s, arguments %s, result %s', r.prokind, pg_get_function_arguments(r.oid), pg_get_function_result(r.oid))),
			(3, 'privileges: ' || (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C")
				FROM unnest(coalesce(r.proacl, acldefault('f', r.proowner))) a))
		) p (n, line)
	UNION ALL
	SELECT n.name, 3, l.n, 'definition: ' || l.line
	FROM routine r JOIN named n ON n.classid = 'pg_proc'::regclass AND n.objid = r.oid,
		regexp_split_to_table(pg_get_functiondef(CASE WHEN r.prokind <> 'a' THEN r.oid END), '\n') WITH ORDINALITY l (line, n)
	UNION ALL
	SELECT n.name, 3, 1, format('aggregate: %s', to_jsonb(a) - 'aggtranstype' - 'aggmtranstype' || jsonb_build_object(
		'transition', format_type(a.aggtranstype, NULL), 'parallel', r.proparallel, 'volatility', r.provolatile))
	FROM routine r JOIN named n ON n.classid = 'pg_proc'::regclass AND n.objid = r.oid JOIN pg_aggregate a ON a.aggfnoid = r.oid

	-- the rest
	UNION ALL
	SELECT n.name, 2, p.n, p.line
	FROM pg_namespace s JOIN named n ON n.classid = 'pg_namespace'::regclass AND n.objid = s.oid,
		LATERAL (VALUES
			(1, 'owner: ' || s.nspowner::regrole),
			(2, 'privileges: ' || (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C")
				FROM unnest(coalesce(s.nspacl, acldefault('n', s.nspowner))) a))
		) p (n, line)
	UNION ALL
	SELECT n.name, 2, p.n, p.line
	FROM pg_foreign_data_wrapper w JOIN named n ON n.classid = 'pg_foreign_data_wrapper'::regclass AND n.objid = w.oid,
		LATERAL (VALUES
			(1, 'owner: ' || w.fdwowner::regrole),
			(2, format('handler %s, validator %s, options %s', nullif(w.fdwhandler, 0)::regprocedure,
				nullif(w.fdwvalidator, 0)::regprocedure, w.fdwoptions)),
			(3, 'privileges: ' || (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C")
				FROM unnest(coalesce(w.fdwacl, acldefault('F', w.fdwowner))) a))
		) p (n, line)
	UNION ALL
	SELECT n.name, 2, p.n, p.line
	FROM pg_type t JOIN named n ON n.classid = 'pg_type'::regclass AND n.objid = t.oid
		LEFT JOIN pg_collation c ON c.oid = t.typcollation,
		LATERAL (VALUES
			(1, 'owner: ' || t.typowner::regrole),
			(2, format('kind %s, category %s, based on %s, not null %s, default %s, collation %s, length %s, input %s, output %s',
				t.typtype, t.typcategory, format_type(nullif(t.typbasetype, 0), t.typtypmod), t.typnotnull, t.typdefault, c.collname,
				t.typlen, t.typinput, t.typoutput)),
			(3, 'labels: ' || (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
				FROM pg_enum e WHERE e.enumtypid = t.oid)),
			(4, 'privileges: ' || (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C")
				FROM unnest(coalesce(t.typacl, acldefault('T', t.typowner))) a))
		) p (n, line)
	UNION ALL
	SELECT n.name, 2, 1, format('function %s, context %s, method %s', nullif(c.castfunc, 0)::regprocedure, c.castcontext, c.castmethod)
	FROM pg_cast c JOIN named n ON n.classid = 'pg_cast'::regclass AND n.objid = c.oid
	UNION ALL
	SELECT n.name, 2, 1, format('function %s, result %s, commutator %s, negator %s, selectivity %s and %s, merges %s, hashes %s',
		nullif(o.oprcode, 0)::regprocedure, format_type(o.oprresult, NULL), nullif(o.oprcom, 0)::regoperator,
		nullif(o.oprnegate, 0)::regoperator, o.oprrest, o.oprjoin, o.oprcanmerge, o.oprcanhash)
	FROM pg_operator o JOIN named n ON n.classid = 'pg_operator'::regclass AND n.objid = o.oid
	UNION ALL
	SELECT n.name, 2, 1, format('event %s, function %s, enabled %s, tags %s, owner %s', t.evtevent, t.evtfoid::regprocedure,
		t.evtenabled, t.evttags, t.evtowner::regrole)
	FROM pg_event_trigger t JOIN named n ON n.classid = 'pg_event_trigger'::regclass AND n.objid = t.oid
	UNION ALL
	SELECT 'extension llm_enrich', 1, 1, format('version %s, relocatable %s, owner %s, functions in schema %s',
		e.extversion, e.extrelocatable, e.extowner::regrole, e.extnamespace::regnamespace)
	FROM extension e
	UNION ALL
	SELECT 'extension llm_enrich', 2, 1, format('dumps the rows of %s%s', c.relation::regclass, ' ' || nullif(c.condition, ''))
	FROM extension e, unnest(e.extconfig, e.extcondition) c (relation, condition)
	UNION ALL
	SELECT 'role ' || r.rolname, 1, 1, format('login %s, inherit %s, superuser %s, member of: %s', r.rolcanlogin, r.rolinherit, r.rolsuper,
		(SELECT string_agg(m.roleid::regrole::text, ' ' ORDER BY m.roleid::regrole::text COLLATE "C") FROM pg_auth_members m WHERE m.member = r.oid))
	FROM pg_roles r WHERE r.rolname ~ '^llm_'
	UNION ALL
	SELECT 'default privileges in schema llm', 1, 1, format('%s of %s: %s', a.defaclobjtype, a.defaclrole::regrole, a.defaclacl)
	FROM pg_default_acl a WHERE a.defaclnamespace = 'llm'::regnamespace
)
SELECT name || ': ' || line FROM line WHERE line IS NOT NULL
ORDER BY name COLLATE "C", section, n, line COLLATE "C";
RESET search_path;
