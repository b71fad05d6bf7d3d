# lwp.pl URL COUNT: prints the body of each answer.
use strict;
use warnings;
use LWP::UserAgent;

my ($url, $count) = @ARGV;
for (1 .. $count) {
    my $answer = LWP::UserAgent->new->get($url);
    die $answer->status_line, "\n" unless $answer->is_success;
    print $answer->content;
}
