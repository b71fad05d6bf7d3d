# http.rb URL COUNT: prints the body of each answer.
require 'net/http'

url, count = ARGV
count.to_i.times { print Net::HTTP.get(URI(url)) }
