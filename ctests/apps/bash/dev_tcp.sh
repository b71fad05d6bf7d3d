# dev_tcp.sh HOST PORT COUNT: dials an echo server by bash's own /dev/tcp; prints its name and the echo.
set -e
for ((n = 0; n < $3; n++)); do
  exec 3<>"/dev/tcp/$1/$2"
  read -r name <&3
  echo ping >&3
  read -r echo <&3
  echo "$name $echo"
  exec 3>&-
done
