# tiny.pl URL COUNT: prints the body of each answer.
use strict;
use warnings;
use HTTP::Tiny;

my ($url, $count) = @ARGV;
for (1 .. $count) {
    my $answer = HTTP::Tiny->new(keep_alive => 0)->get($url);
    die "$answer->{content}\n" unless $answer->{success};
    print $answer->{content};
}
