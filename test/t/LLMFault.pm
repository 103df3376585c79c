# LLMFault.pm
#
# What a machine can do to a server, within one server of a test: fault_shim.c, and what it is told.

package LLMFault;

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(make_faults start_faulty wish wished);

# What the file of wishes holds, in the order of struct Wishes.
my @wishes = qw(clock_s disk_full victim no_sockets allocations failed no_shared);
my ($shim, $file);

# Once, before anything else; ends the test where there can be none.
sub make_faults
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $compiler = $ENV{CC} // 'cc';

	($shim, $file) = ("$dir/fault_shim.so", "$dir/wishes");
	plan skip_all => 'there is no Linux and glibc'
		unless $^O eq 'linux' && -r '/proc/self/maps' && slurp_file('/proc/self/maps') =~ /libc[.-]/;
	plan skip_all => "there is no C compiler ($compiler)"
		if system("$compiler -shared -fPIC -O2 -o '$shim' '$FindBin::RealBin/fault_shim.c' -ldl >'$dir/cc.log' 2>&1") != 0;
	append_to_file($file, pack('q*', (0) x @wishes));
	return;
}

# Start a server that heeds wishes.
sub start_faulty
{
	my ($node) = @_;

	local @ENV{qw(LD_PRELOAD LLM_FAULT_FILE)} = ($shim, $file);
	$node->start;
	return;
}

# Set some of them.
sub wish
{
	my %wish = @_;

	open(my $handle, '+<:raw', $file) or die "could not open $file: $!";
	for my $i (0 .. $#wishes)
	{
		next unless exists $wish{ $wishes[$i] };
		sysseek($handle, 8 * $i, 0);
		syswrite($handle, pack('q', $wish{ $wishes[$i] }));
	}
	close $handle;
	return;
}

# What one of them is now.
sub wished { my %is; @is{@wishes} = unpack('q*', slurp_file($file)); return $is{ $_[0] }; }

1;
