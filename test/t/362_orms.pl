# P2: a row that was read while it was pending, and saved as a whole when the answer was there, does
# not lose the answer where the table has llm.keep_answers(): in SQL, and as ORMs do it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest qw(!sql);

my $node = new_node('orms', 'llm_enrich.enabled = off');
my $provider = start_provider();
setup_model($node, $provider);

sub sql { return $node->safe_psql('postgres', join(";\n", @_)); }

my $guard = 'CREATE TRIGGER keep_answers BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION llm.keep_answers()';
my $ask = q(UPDATE %s SET label = llm_classify(body, '{billing,bug}'));

sub make_table
{
	my $name = shift;

	sending($node, 'off');
	sql("CREATE TABLE $name (id int PRIMARY KEY, body text, note text, label jsonb, plain json)",
		"INSERT INTO $name SELECT i, 'The invoice is wrong ' || i FROM generate_series(1, 3) i", sprintf($guard, $name));
	return;
}

# What a table's cells hold, and its notes.
sub cells { return sql("SELECT count(*) || ' ' || count(note) FROM $_[0] WHERE label = '{\"label\": \"billing\"}'"); }

# In SQL.
make_table('ticket');
sql(sprintf($ask, 'ticket'), q(UPDATE ticket SET plain = llm_classify('x ' || body, '{billing,bug}')), 'CREATE TABLE seen AS SELECT * FROM ticket');
is(sql('SELECT count(*) FROM ticket WHERE llm_is_pending(label) AND llm_is_pending(plain::jsonb)'), 3, 'the trigger lets a call have its cell');
my $save = 'UPDATE ticket t SET (body, note, label, plain) = (s.body, $$saved$$, s.label, s.plain) FROM seen s WHERE s.id = t.id';
sql($save, 'UPDATE ticket SET note = NULL');
sending($node, 'on');
wait_idle($node);
is(cells('ticket'), '3 0', 'saved while pending: the answers come');
my $plain = sql('SELECT string_agg(plain::text, $$|$$ ORDER BY id) FROM ticket');
sql($save);
is(cells('ticket'), '3 3', 'P2: saved after the answers came: they stay, and the rest is saved');
is(sql('SELECT string_agg(plain::text, $$|$$ ORDER BY id) FROM ticket'), $plain, 'in a column of json, too');
my $asked = $provider->meter->{requests};
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,defect}')), 'TRUNCATE seen', 'INSERT INTO seen SELECT * FROM ticket');
wait_idle($node);
is($provider->meter->{requests} - $asked, 3, 'another question is asked');
sql($save);
is(cells('ticket'), '3 3', 'and its answers stay');
sql(q(UPDATE ticket SET label = '{"label": "mine"}' WHERE id = 1), 'UPDATE ticket SET label = NULL WHERE id = 2');
is(sql('SELECT string_agg(COALESCE(label->>$$label$$, $$-$$), $$ $$ ORDER BY id) FROM ticket'), 'mine - billing', 'any other value is written');
my ($rc, undef, $err) = $node->psql('postgres',
	'CREATE TRIGGER wrong AFTER UPDATE ON ticket FOR EACH ROW EXECUTE FUNCTION llm.keep_answers(); UPDATE ticket SET note = NULL');
like($err, qr/was not called by a trigger BEFORE UPDATE FOR EACH ROW/, 'a trigger of another kind is refused');
sql('DROP TRIGGER wrong ON ticket');

# As ORMs do it: load while pending, wait, change a note, save all.
my ($host, $port) = ($node->host, $node->port);
my %orm = (
	django => qq(
from django.conf import settings
settings.configure(DATABASES={'default': {'ENGINE': 'django.db.backends.postgresql',
    'HOST': '$host', 'PORT': $port, 'NAME': 'postgres', 'USER': USER}})
import django
django.setup()
from django.db import models
class Row(models.Model):
    id = models.IntegerField(primary_key=True)
    body = models.TextField()
    note = models.TextField(null=True)
    label = models.JSONField(null=True)
    class Meta:
        app_label = 'orms'
        db_table = 'django'
rows = list(Row.objects.all())
ready()
for row in rows:
    row.note = 'saved'
    row.save()
),
	sqlalchemy => qq(
from sqlalchemy import create_engine, Column, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session
from sqlalchemy.ext.declarative import declarative_base
Base = declarative_base()
class Row(Base):
    __tablename__ = 'sqlalchemy'
    id = Column(Integer, primary_key=True)
    body = Column(Text)
    note = Column(Text)
    label = Column(JSONB)
engine = create_engine('postgresql+psycopg2://%s\@/postgres?host=$host&port=$port' % USER)
with Session(engine) as session:
    rows = [dict(id=r.id, body=r.body, label=r.label) for r in session.query(Row)]
ready()
with Session(engine) as session:
    for row in rows:
        session.merge(Row(note='saved', **row))
    session.commit()
),
);
my $frame = q(
import getpass, sys
USER = getpass.getuser()
def ready():
    print('loaded', flush=True)
    sys.stdin.readline()
);
foreach my $name (sort keys %orm)
{
  SKIP:
	{
		my ($python) = grep { system("$_ -c 'import $name, psycopg2' 2>/dev/null") == 0 } qw(python3 /usr/bin/python3);
		skip "Python has no $name or psycopg2", 1 if !defined $python;
		my $file = "$PostgreSQL::Test::Utils::tmp_check/$name" . '_rows.py';
		PostgreSQL::Test::Utils::append_to_file($file, $frame . $orm{$name});
		make_table($name);
		sql(sprintf($ask, $name));
		my ($in, $out, $errors) = ('', '', '');
		my $program = IPC::Run::start([ $python, '-W', 'ignore', $file ], '<', \$in, '>', \$out, '2>', \$errors);
		$program->pump until $out =~ /loaded/ or !$program->pumpable;
		sending($node, 'on');
		wait_idle($node);
		$in .= "\n";
		$program->finish or diag($errors);
		is(cells($name), '3 3', "$name: answers stay, notes are saved");
	}
}
# TypeORM's save() writes what differs from the row as it is now: the marker, too. NODE_PATH names the folder with typeorm and pg.
SKIP:
{
	skip 'Node has no typeorm or pg', 1 if system(q(node -e "require('typeorm'); require('pg')" >/dev/null 2>&1)) != 0;
	my $file = "$PostgreSQL::Test::Utils::tmp_check/typeorm_rows.js";
	PostgreSQL::Test::Utils::append_to_file($file, qq(
const { DataSource, EntitySchema } = require('typeorm');
const Row = new EntitySchema({ name: 'Row', tableName: 'typeorm', columns: {
  id: { type: 'int', primary: true }, body: { type: 'text' }, note: { type: 'text', nullable: true },
  label: { type: 'jsonb', nullable: true } } });
const source = new DataSource({ type: 'postgres', host: '$host', port: $port, database: 'postgres',
  username: require('os').userInfo().username, entities: [Row] });
(async () => {
  await source.initialize();
  const rows = await source.getRepository(Row).find();
  console.log('loaded');
  await new Promise(done => process.stdin.once('data', done));
  rows.forEach(row => { row.note = 'saved'; });
  await source.getRepository(Row).save(rows);
  await source.destroy();
  process.exit(0);
})().catch(e => { console.error(e); process.exit(1); });
));
	make_table('typeorm');
	sql(sprintf($ask, 'typeorm'));
	my ($in, $out, $errors) = ('', '', '');
	my $program = IPC::Run::start([ 'node', $file ], '<', \$in, '>', \$out, '2>', \$errors);
	$program->pump until $out =~ /loaded/ or !$program->pumpable;
	sending($node, 'on');
	wait_idle($node);
	$in .= "\n";
	$program->finish or diag($errors);
	is(cells('typeorm'), '3 3', 'typeorm: answers stay, notes are saved');
}
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

done_testing();
