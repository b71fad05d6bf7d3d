# socket.pl HOST PORT COUNT: dials an echo server; prints its name, the echo and the peer.
use strict;
use warnings;
use IO::Socket::INET;

my ($host, $port, $count) = @ARGV;
for (1 .. $count) {
    my $socket = IO::Socket::INET->new(PeerHost => $host, PeerPort => $port, Timeout => 10) or die "$@\n";
    chomp(my $name = <$socket>);
    print $socket "ping\n";
    chomp(my $echo = <$socket>);
    print "$name $echo at ", $socket->peerhost, ":", $socket->peerport, "\n";
}
