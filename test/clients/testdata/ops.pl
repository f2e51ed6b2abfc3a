# Runs operations from standard input with Net::FTP: tls host port user password ca.
use strict;
use warnings;
use Net::FTP;
use IO::Socket::SSL;
my ($tls, $host, $port, $user, $password, $ca) = @ARGV;
my %ssl = $tls eq 'plain' ? () : (SSL_ca_file => $ca, SSL => $tls eq 'implicit' ? 1 : 0);
my $ftp = Net::FTP->new($host, Port => $port, Timeout => 60, Passive => 1, %ssl) or die "connect: $@";
sub check { $_[0] or die "$_[1]: " . $ftp->code . ' ' . $ftp->message . " $@\n" }
check(scalar($ftp->starttls), 'starttls') if $tls eq 'explicit';
check(scalar($ftp->login($user, $password)), 'login');
check(scalar($ftp->prot('P')), 'prot') if $tls ne 'plain';
check(scalar($ftp->binary), 'binary');
while (my $line = <STDIN>) {
	chomp $line;
	my ($verb, $a, $b) = split /\t/, $line, 3;
	if ($verb eq 'put') { check(scalar($ftp->put($a, $b)), $line) }
	elsif ($verb eq 'get') { check(scalar($ftp->get($a, $b)), $line) }
	elsif ($verb eq 'list') {
		print "$_\n" for $ftp->ls($a), $ftp->dir($a);
	}
	elsif ($verb eq 'mkdir') { check(scalar($ftp->mkdir($a)), $line) }
	elsif ($verb eq 'rmdir') { check(scalar($ftp->rmdir($a)), $line) }
	elsif ($verb eq 'rename') { check(scalar($ftp->rename($a, $b)), $line) }
	elsif ($verb eq 'delete') { check(scalar($ftp->delete($a)), $line) }
	elsif ($verb eq 'reget') { check(scalar($ftp->get($a, $b, -s $b)), $line) }
	elsif ($verb eq 'reput') {
		open my $f, '<:raw', $a or die $!;
		seek $f, $ftp->size($b), 0 or die $!;
		check(scalar($ftp->append($f, $b)), $line);
	}
	else { die "unknown $verb" }
}
$ftp->quit;
