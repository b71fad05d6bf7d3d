# http.tcl URL COUNT: prints the body of each answer.
package require http

lassign $argv url count
for {set n 0} {$n < $count} {incr n} {
    set answer [http::geturl $url -keepalive 0 -timeout 10000]
    puts -nonewline [http::data $answer]
    http::cleanup $answer
}
